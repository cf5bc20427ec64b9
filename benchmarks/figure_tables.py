"""The tables that pages show: Markdown in which {KEY: FIELD FORM} stands for a figure.

KEY is one of figures.json, FIELD leads into what is there (`midge.cycles`, `rows.0.ram`), FORM
says how it is written; what `<!-- figures: ... -->` names inside a line is such a figure, too.
`needs` says what a text rests on, `rendered` fills it in.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from midge.cli.output import number
from midge.core.errors import UsageError

PEERS = tomllib.loads((Path(__file__).parent / "peers.toml").read_text())
_FIGURE = re.compile(r"\{(?P<key>[^{}]+): (?P<field>[^{} ]+)(?: (?P<form>[^{} ]+))?\}")
_IN_TABLE = re.compile(r"^\|.*$", re.MULTILINE)
_BETWEEN = re.compile(r"(?<=\d) (?=\d{3}(?!\d)|%)")  # a narrow cell must not break a number

FORMS: Mapping[str, Callable[[Any], str]] = {
    "": lambda n: n if isinstance(n, str) else number(None if n is None else round(n)),
    "M": lambda n: f"{n / 1e6:.2f}",
    "1": lambda n: f"{n:.1f}",
    "2": lambda n: f"{n:.2f}",
    "%": lambda n: f"{100 * n:.1f} %",
    "KB": lambda n: number(round(n / 1024, 1 if n < 10_000 else None)),
    "/2": lambda n: number(round(n / 2)),
    "/4": lambda n: number(round(n / 4)),
    "/10": lambda n: number(round(n / 10)),
    "MB": lambda n: number(round(n / (1 << 20))),
}


def needs(text: str) -> list[str]:
    """The keys that `text` asks for."""
    return list(dict.fromkeys(f["key"] for f in _FIGURE.finditer(text)))


def rendered(text: str, figures: Mapping[str, Any], where: str) -> str:
    """`text` with its figures; UsageError for one that is not there."""

    def fill(match: re.Match[str]) -> str:
        key, field, form = match["key"], match["field"], match["form"] or ""
        found: Any = figures.get(key)
        try:
            for part in field.split("."):
                found = found[int(part) if part.isdigit() else part]
            return FORMS[form](found)
        except (KeyError, IndexError, TypeError, ValueError):
            what = f"no figure {match[0]}"
            raise UsageError(what, where=where, hint="measure it, or mend its name") from None

    return _IN_TABLE.sub(lambda row: _BETWEEN.sub("\u00a0", row[0]), _FIGURE.sub(fill, text))


def text_of(name: str, where: str) -> str:
    """What the place `name` of a page shows; UsageError for a name that means nothing."""
    if name in TABLES:
        return TABLES[name]()
    if _FIGURE.fullmatch(f"{{{name}}}"):
        return f"{{{name}}}"
    hint = f"KEY: FIELD, or one of {', '.join(TABLES)}"
    raise UsageError(f"no figures are called {name!r}", where=where, hint=hint)


def table(head: Sequence[str], rows: Iterable[Iterable[str]], left: int = 1) -> str:
    """Markdown; all but the first `left` columns are numbers."""
    rule = "|---" * left + "|---:" * (len(head) - left) + "|"
    first, *others = ("".join(f"| {c} " if c else "| " for c in row) + "|" for row in (head, *rows))
    return "\n".join([first, rule, *others])


MODELS = {
    "kws_int8": "keyword spotting", "vww_int8": "visual wake words", "resnet_int8": "images",
    "ad_int8": "anomalies", "sww_int8": "wake word",
}  # fmt: skip
WAITLESS = "cycles without memory waits"


def versions() -> str:
    return (
        "Measured by `make figures`: Midge {versions: midge}, ziglang {versions: ziglang} (clang"
        " {versions: clang}), Unicorn {versions: unicorn}, OR-Tools {versions: ortools},\n"
        "scikit-learn {versions: scikit-learn}. Cycles are estimated, without memory waits, by"
        " Midge's model of the core that is named, the Cortex-M4 where none is."
    )


def peers() -> str:
    def midge(label: str, field: str, options: str = "") -> list[str]:
        return [label, *(f"{{run {m}{options}: {field}}}" for m in MODELS)]

    def peer(name: str, label: str, field: str) -> list[str]:
        found = [PEERS[m].get(name, {}).get(field) for m in MODELS]
        form = FORMS["M"] if field == "cycles" else number
        return [label, *("-" if n is None else form(n) for n in found)]

    size = " --optimize size"
    head = [f"Cortex-M4, {WAITLESS}", *MODELS.values()]
    rows = [
        midge("**Midge: million cycles**", "cycles M"),
        midge("Midge, `--optimize size`", "cycles M", size),
        midge("Midge, `--unroll`", "cycles M", " --unroll"),
        peer("tflm", "TFLM", "cycles"),
        midge("**Midge: flash**, bytes", "flash"),
        midge("Midge, `--optimize size`", "flash", size),
        midge("Midge, `--unroll`", "flash", " --unroll"),
        peer("tflm", "TFLM", "flash"),
        peer("microtvm", "microTVM", "flash"),
        midge("**Midge: arena**, bytes", "arena"),
        midge("Midge, `--whole-tensors`", "arena", " --whole-tensors"),
        peer("tflm", "TFLM", "arena"),
        peer("microtvm", "microTVM", "arena"),
        midge("**Midge: stack**, bytes", "stack"),
        peer("tflm", "TFLM", "stack"),
    ]
    return table(head, rows)


NETWORKS = (
    ("CNN", "digits"), ("MLP", "digits"), ("1-D CNN", "motions"), ("LSTM", "digits, row by row"),
    ("transformer", "digits, rows as tokens"),
)  # fmt: skip


def networks() -> str:
    head = ("", "float", "int8, on the board", WAITLESS, "RAM", "constants")
    fields = ("float %", "board %", "cycles", "ram", "constants")
    rows = [
        (f"{name}, {data.partition(',')[0]}", *(f"{{networks: rows.{i}.{f}}}" for f in fields))
        for i, (name, data) in enumerate(NETWORKS)
    ]
    return table(head, rows)


def networks_in_full() -> str:
    head = ("", "data", "float", "int8", "int8 from .pt2", "int8 on the board", WAITLESS)
    fields = ("float %", "int8 %", "pt2 %", "board %", "cycles", "ram", "constants")
    rows = [
        (name, data, *(f"{{networks: rows.{i}.{f}}}" for f in fields))
        for i, (name, data) in enumerate(NETWORKS)
    ]
    made = table((*head, "RAM", "flash, constants"), rows, left=2)
    text = "Trained with PyTorch {networks: torch}; another version may train to other numbers."
    return f"{made}\n\n{text}"


def operators() -> str:
    known: Mapping[str, list[float]] = PEERS["operators"]["tflm"]
    names = {
        "first conv": "first convolution", "pointwise of 8": "pointwise, 8 input channels",
        "pointwise": "pointwise", "conv 3x3": "3x3", "conv 3x3+add": "3x3 and an addition",
        "depthwise 3x3": "depthwise 3x3", "dense": "fully connected",
    }  # fmt: skip
    rows = []
    for kind, name in names.items():
        peer = " to ".join(dict.fromkeys(f"{n:.1f}" for n in known.get(kind, ()))) or "-"
        fields = ("operators", "cycles 2", "least 2", "most 2", "instructions 2")
        key = kind.replace(" ", "_")
        rows.append((name, *(f"{{kinds: {key}.{f}}}" for f in fields), peer))
    head = ("", "operators", WAITLESS, "least", "most", "instructions", "TFLM: instructions")
    return table(head, rows)


def reserved() -> str:
    names = [m.removesuffix("_int8").replace("resnet", "ic") for m in MODELS]
    rows = [
        [label, *(f"{{run {m}{options}: cycles M}}" for m in MODELS)]
        for label, options in (("usual", ""), ("`--reserve r9`", " --reserve r9"))
    ]
    return table([f"million {WAITLESS}", *names], rows)


def floats() -> str:
    models = ("kws", "resnet", "vww", "ad")
    cores = {
        "Cortex-M4, kernels of any core": "benchmarks/plain-m4.toml", "Cortex-M4": "cortex-m4",
        "Cortex-M7, kernels of any core": "benchmarks/plain-m7.toml", "Cortex-M7": "cortex-m7",
    }  # fmt: skip
    rows = [
        [core, *(f"{{run {m}_float --target {target}: cycles M}}" for m in models)]
        for core, target in cores.items()
    ]
    return table([f"million {WAITLESS}", *models], rows)


def plain_cores() -> str:
    models = ("kws", "resnet")
    cores = {
        "Cortex-M3": "cortex-m3: cycles", "Cortex-M0+": "cortex-m0plus: cycles",
        "RV32IMAC, instructions": "rv32imac: instructions",
    }  # fmt: skip
    rows = [
        [core, *(f"{{run {m}_int8 --target {figure} M}}" for m in models)]
        for core, figure in cores.items()
    ]
    return table([f"million {WAITLESS}, int8", *models], rows)


def plans() -> str:
    options = {
        "kws_int8": ("--whole-tensors", "", "--stream-input"),
        "vww_int8": ("--whole-tensors", "", "--stream-input"),
        "sww_int8": ("--whole-tensors", "", "--stream-input"),
        "resnet_int8": ("--whole-tensors", "", "--max-ram 12000"),
        "ad_int8": ("",),
    }
    rows = [
        (
            "" if i else model, f"`{option}`" if option else "",
            *(f"{{run {f'{model} {option}'.strip()}: {f}}}" for f in ("arena", "stack", "cycles")),
        )
        for model, found in options.items()
        for i, option in enumerate(found)
    ]  # fmt: skip
    return table(("model", "option", "arena", "stack", WAITLESS), rows, left=2)


def window() -> str:
    ways = {
        "`--whole-tensors`, an inference after each frame": (" --whole-tensors", ""),
        "by bands, an inference after each frame": ("", ""),
        "`--stream-time` (1 frame)": (" --stream-time", ""),
        **{f"`--stream-time {n}`": (f" --stream-time {n}", f" /{n}") for n in (2, 4, 10)},
    }
    rows = [
        (
            label,
            *(f"{{run sww_int8{o}: {f}}}" for f in ("arena", "macs", "cycles", f"cycles{frames}")),
        )
        for label, (o, frames) in ways.items()
    ]
    return table(("", "arena", "multiply-accumulates", WAITLESS, "for each frame"), rows)


def trees() -> str:
    cases = {
        "tree, depth 10": "tree of depth 10", "forest of 10": "forest of 10",
        "forest of 50": "forest of 50", "tree, depth 10, float": "tree of depth 10, float features",
        "forest of 10, float": "forest of 10, float features",
        "forest of 10, leaves of 4": "forest of 10, `min_samples_leaf=4`",
        "boosting of 10": "gradient boosting, 10 stages of 10 trees",
    }  # fmt: skip
    fields = ("instructions", "cycles", "flash", "agreement %")
    head = ("", "instructions", WAITLESS, "flash", "labels as scikit-learn's")
    return table(head, [(cases[c], *(f"{{trees {c}: {f}}}" for f in fields)) for c in cases])


def tree_generators() -> str:
    found: Mapping[str, list[list[float]]] = PEERS["trees"]["made_by"]
    rows = [
        (name, *(f"{number(int(i))} / {number(int(f))} / {a:.2f}" for i, f, a in models))
        for name, models in found.items()
    ]
    return table(("instructions / flash / agreement", *PEERS["trees"]["models"]), rows)


TWINS = ("kws", "vww", "resnet", "ad", "hello_world")


def twins() -> str:
    head = (
        "model", "by", ".tflite", "constants", "arena", WAITLESS, "argmax as float, of 200",
        "SNR dB", "Midge's as shipped",
    )  # fmt: skip
    rows = []
    for model in TWINS:
        judged = model != "hello_world"  # which has one output
        for maker in ("midge", "shipped"):
            sizes = ("file", "constants", "arena", "cycles", *["agreement"] * judged)
            cells = [f"{{twins {model}: {maker}.{f}}}" for f in sizes] + ["-"] * (not judged)
            both = f"{{twins {model}: both}}" if judged and maker == "midge" else ""
            noise = f"{{twins {model}: {maker}.snr_db 1}}"
            named = (model, "Midge") if maker == "midge" else ("", "shipped")
            rows.append((*named, *cells, noise, both))
    return table(head, rows, left=2)


def methods() -> str:
    names = ("minmax", "percentile", "entropy", "mse")
    rows = [
        [m, *(f"{{methods {m}: {n}.0 1}} ({{methods {m}: {n}.1 1}})" for n in names)]
        for m in TWINS[:-1]
    ]
    return table(("", *names), rows)


def cost() -> str:
    networks = {"kws_int8": "", "vww_int8": "", "resnet_int8": "", "mobilenet_v2_224": ""}
    networks["mobilenet_v2_224"] = "MobileNetV2, width 1.0, 224 x 224"
    fields = ("operators", "weights KB", "cpu", "again", "rss MB")
    rows = [
        (label or name, *(f"{{cost {name} --again: {f}}}" for f in fields))
        for name, label in networks.items()
    ]
    head = ("for Cortex-M4", "operators in C", "weights, KB", "first time, s", "next time, s", "MB")
    return table(head, rows)


VERIFIED = ("mobilenet_v2_035_224", "dense_10mb")  # of which the text tells what verify takes


def cost_without_search() -> str:
    networks = {
        "chain_1200": "1 200 elementwise operators, one after the other",
        "convs_1200": "600 convolutions, each with a Relu",
        "lstm_200": "LSTM, 200 time steps written out",
        "dense_10mb": "a dense layer, int8",
        "dense_10mb_float": "a dense layer, float",
        "image_500": "three convolutions on 500 x 500 pixels",
        "mobilenet_v2_035_224": "MobileNetV2, width 0.35, 224 x 224",
    }
    fields = ("operators", "weights KB", "cpu", "rss MB")
    rows = [
        (label, *(f"{{cost {n} --no-search{' --verify' * (n in VERIFIED)}: {f}}}" for f in fields))
        for n, label in networks.items()
    ]
    head = ("`--no-search`, first time", "operators in C", "weights, KB", "CPU time, s", "MB")
    return table(head, rows)


DIGITS = "examples/digits/digits_int8.tflite"


def session() -> str:
    commands = (
        f"midge compile {DIGITS} --name digits -o digits", f"midge verify {DIGITS} --count 20",
        f"midge run {DIGITS} --no-operators",
    )  # fmt: skip
    return "```console\n" + "\n\n".join(f"{{console {c}: text}}" for c in commands) + "\n```"


def trade() -> str:
    command = "midge compile nas_vww_72.tflite -o vww"
    return f"```console\n{{console {command}: text}}\n```"


def trade_off() -> str:
    return "```console\n{console midge inspect nas_vww_72.tflite --trade-off: text}\n```"


def trades() -> str:
    models = ("nas_vww_72", "nas_vww_77", "nas_imagenette", *MODELS)
    ends = ("taken", "smallest", "fastest")
    head = ["RAM in bytes, cycles without memory waits", *(e for e in ends for _ in range(2))]
    rows = [
        [m, *(f"{{trade {m}: {e}.{field}}}" for e in ends for field in ("arena", "cycles"))]
        for m in models
    ]
    return table(head, rows)


def profile() -> str:
    command = f"midge profile {DIGITS} --asm conv2d_2 | head -13"
    return f"```console\n{{console {command}: text}}\n```"


TABLES: Mapping[str, Callable[[], str]] = {
    "versions": versions, "peers": peers, "networks": networks, "session": session,
    "networks in full": networks_in_full, "operators": operators, "reserved": reserved,
    "float": floats, "plain cores": plain_cores, "plans": plans, "window": window, "trees": trees,
    "tree generators": tree_generators, "twins": twins, "methods": methods, "cost": cost,
    "cost without search": cost_without_search, "profile": profile,
    "trade": trade, "trade off": trade_off, "trades": trades,
}  # fmt: skip
