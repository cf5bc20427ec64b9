"""Small networks as people bring them to microcontrollers, in every form in which they come.

    python benchmarks/networks.py make FOLDER [--forms onnx,pt2] [--only NAME]
    python benchmarks/networks.py try FOLDER [--forms ...] [--only NAME] [--jobs 1] [--seconds 150]

`make` writes the files that the exporters make and `networks.json`, which lists them and what an
exporter refused; it may be called once in an environment with PyTorch and once in one with
TensorFlow. `try` does `midge compile FILE` and `midge verify FILE -n 3` with each, of this tree,
prints what is not right as it comes, and a table by form; it exits with 1 if anything was wrong,
or failed by anything but an error that says what to do.

    onnx        torch.onnx.export              qdq, qoperator   ONNX Runtime's static quantisation
    onnx-old    the same, dynamo=False         ort              ONNX Runtime's optimiser, extended
    pt2         torch.export                   tflite, tflite-int8, tflite-int16x8   from Keras
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MAKERS = {"torch_networks": "torch", "keras_networks": "tensorflow"}  # what each needs
VERDICTS = ("right", "refused", "exporter", "framework", "time", "unhelpful", "wrong", "internal")
FAULTS = ("unhelpful", "wrong", "internal")
REFUSED, WRONG = (2, 3), 1  # exit codes: docs/command-line.md


@dataclass(frozen=True, slots=True)
class File:
    """file: below the folder; none where the exporter refuses the network, for `why`."""

    network: str
    form: str
    file: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """verdict: "right"; "refused" by Midge, with what to do, or "unhelpful", without; "exporter",
    which made no file; "framework", which does not run the file; "time", which is over; "wrong";
    "internal"."""

    verdict: str
    why: str = ""


def listed(folder: Path) -> list[File]:
    path = folder / "networks.json"
    return [File(**entry) for entry in json.loads(path.read_text())] if path.is_file() else []


def chosen(files: Sequence[File], options: argparse.Namespace) -> list[File]:
    return [
        f for f in files
        if (not options.forms or f.form in options.forms)
        and (not options.only or f.network in options.only)
    ]  # fmt: skip


def make(options: argparse.Namespace) -> int:
    """Every network in every form that the packages which are here make."""
    known = {(f.network, f.form): f for f in listed(options.folder)}
    for module in [m for m, package in MAKERS.items() if find_spec(package)]:
        maker = importlib.import_module(module)
        for network in maker.NETWORKS:
            wanted = [File(network, form) for form in maker.forms_of(network)]
            for entry in chosen(wanted, options):
                known[network, entry.form] = written(maker, entry, options.folder)
            files = sorted(map(asdict, known.values()), key=lambda e: (e["network"], e["form"]))
            options.folder.mkdir(parents=True, exist_ok=True)
            (options.folder / "networks.json").write_text(json.dumps(files, indent=1) + "\n")
    made = Counter((f.form, bool(f.file)) for f in known.values())
    for form in sorted({form for form, _ in made}):
        print(f"{form:16}{made[form, True]:4} files{made[form, False]:4} refused by the exporter")
    return 0


def written(maker: Any, entry: File, folder: Path) -> File:
    try:
        path: Path = maker.write(entry.network, entry.form, folder)
    except Exception as error:  # noqa: BLE001  # an exporter's words, whatever it throws
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        print(f"{entry.network} {entry.form}: exporter: {why}", flush=True)
        return File(entry.network, entry.form, why=why)
    return File(entry.network, entry.form, str(path.relative_to(folder)))


def called(words: Sequence[str], seconds: float) -> tuple[int, dict[str, Any]]:
    """The exit code of midge and what it says; TimeoutExpired when it and all it has started are
    ended."""
    path = os.pathsep.join([str(ROOT / "src"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    child = subprocess.Popen(
        [sys.executable, "-m", "midge", *words, "--json"], env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    try:
        out, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise
    try:
        return child.returncode, json.loads(out)
    except json.JSONDecodeError:
        return child.returncode, {"error": {"what": " ".join((out + errors).split())[-400:]}}


def tried(path: Path, seconds: float) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        try:
            code, said = called(["compile", str(path), "-o", f"{folder}/out"], seconds)
            if code:
                return failure("compile", code, said)
            code, said = called(["verify", str(path), "-n", "3"], seconds)
        except subprocess.TimeoutExpired as error:
            return Found("time", f"{error.cmd[3]} takes more than {seconds:.0f} s")
    if "error" in said or code not in (0, WRONG):
        return failure("verify", code, said)
    return judged(said)


def failure(command: str, code: int, said: Mapping[str, Any]) -> Found:
    error = said.get("error", {})
    place, hint = error.get("where"), error.get("hint")
    why = f"{command}: " + ": ".join(filter(None, (place, error.get("what"), hint)))
    if code not in REFUSED:
        return Found("internal", f"{why} (exit {code})")
    return Found("refused" if hint else "unhelpful", why)


def judged(said: Mapping[str, Any]) -> Found:
    """Of what `verify` compared."""
    first = said["stages"][0]
    if not said["ok"]:
        apart = [s["first_difference"] for s in said["stages"] if s["first_difference"]]
        return Found("wrong", f"{said['verdict']} {apart}")
    if said["self_check_only"]:
        return Found("framework", str(first["skipped"] or first["notes"] or said["verdict"]))
    return Found("right")


def attempt(options: argparse.Namespace) -> int:
    """All files that are listed; a line for each that is not right, and the table."""
    files = chosen(listed(options.folder), options)
    start = time.monotonic()

    def one(entry: File) -> Found:
        if not entry.file:
            return Found("exporter", entry.why)
        return tried(options.folder / entry.file, options.seconds)

    verdicts: Counter[tuple[str, str]] = Counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for entry, found in zip(files, pool.map(one, files), strict=True):
            verdicts[entry.form, found.verdict] += 1
            if found.verdict != "right":
                name = entry.file or f"{entry.network} {entry.form}"
                print(f"{name}: {found.verdict}: {found.why}", flush=True)
    for row in rows(verdicts):
        print(row)
    print(f"{len(files)} files, {time.monotonic() - start:.0f} s")
    return 1 if any(verdicts[key] for key in verdicts if key[1] in FAULTS) else 0


def rows(verdicts: Counter[tuple[str, str]]) -> Iterator[str]:
    yield f"{'form':16}{'files':>6}" + "".join(f"{v:>10}" for v in VERDICTS)
    for form in sorted({form for form, _ in verdicts}):
        counts = [verdicts[form, v] for v in VERDICTS]
        yield f"{form:16}{sum(counts):6}" + "".join(f"{n:10}" for n in counts)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("what", choices=("make", "try"))
    parser.add_argument("folder", type=Path)
    names = {"type": lambda text: text.split(","), "metavar": "NAME,..."}
    parser.add_argument("--forms", default=(), help="default: all", **names)
    parser.add_argument("--only", default=(), help="networks; default: all", **names)
    parser.add_argument("--jobs", type=int, default=1, help="files at a time")
    parser.add_argument("--seconds", type=float, default=150, help="of one command")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    return make(options) if options.what == "make" else attempt(options)


if __name__ == "__main__":
    sys.exit(main())
