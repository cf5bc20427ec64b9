"""Small networks as people bring them to microcontrollers, in every form in which they come.

    python benchmarks/networks.py make FOLDER [--forms onnx,pt2] [--only NAME]
    python benchmarks/networks.py try FOLDER [--forms ...] [--only NAME] [--jobs 1] [--seconds 150]
                                      [--minutes M]

`make` writes the files that the exporters make and `networks.json`, which lists them and what an
exporter refused; it may be called once in an environment with PyTorch and once in one with
TensorFlow. `try` does `midge compile FILE` and `midge verify FILE -n 3` with each, of this tree,
prints what is not right as it comes, and a table by form; it exits with 1 if anything was wrong,
or failed by anything but an error that says what to do. All forms and networks are mixed, so that
a run that ends after some minutes has seen some of each.

    onnx        torch.onnx.export              qdq, qoperator   ONNX Runtime's static quantisation
    onnx-old    the same, dynamo=False         ort              ONNX Runtime's optimiser, extended
    pt2         torch.export                   tflite, tflite-int8, tflite-int16x8   from Keras
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CALIBRATION = 8  # samples
VERDICTS = "right refused exporter framework time unhelpful wrong internal untried".split()
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


class Torch:
    """Of `torch_networks`; what ONNX Runtime makes, of the `onnx` file."""

    def __init__(self) -> None:
        import torch
        import torch_networks

        self.torch, self.own = torch, torch_networks
        self.networks = torch_networks.NETWORKS

    def forms(self, network: str) -> Iterator[str]:
        yield from ("onnx", "pt2", "qdq", "qoperator", "ort")
        if network in self.own.RECURRENT:
            yield "onnx-old"

    def write(self, network: str, form: str, folder: Path) -> Path:
        source = folder / "onnx" / f"{network}.onnx"
        path = folder / form / f"{network}.{'pt2' if form == 'pt2' else 'onnx'}"
        if form == "ort":  # the file names the data of its source
            path = source.with_name(f"{network}_ort.onnx")
        path.parent.mkdir(parents=True, exist_ok=True)
        if form in ("qdq", "qoperator"):
            self.quantize(network, source, path, form)
        elif form == "ort":
            optimize(source, path)
        else:
            self.export(network, path, form)
        return path

    def samples(self, network: str, count: int, seed: int) -> tuple[Any, ...]:
        """Of each input."""
        shapes, ids = self.networks[network][0], self.own.IDS.get(network)
        rng = self.torch.Generator().manual_seed(seed)
        if ids is not None:
            return tuple(self.torch.randint(ids, (count, *s), generator=rng) for s in shapes)
        return tuple(self.torch.randn(count, *s, generator=rng) for s in shapes)

    def trained(self, network: str) -> Any:
        """Batch normalisation has the statistics of what goes through it, so that values stay as
        large as in trained networks."""
        self.torch.manual_seed(zlib.crc32(network.encode()))
        model, init = self.networks[network][1]().train(), self.torch.nn.init
        for part in model.modules():
            if getattr(part, "running_mean", None) is not None:
                part.momentum = None
                init.uniform_(part.weight, 0.7, 1.3)
                init.normal_(part.bias, 0, 0.2)
        with self.torch.no_grad():
            for seed in range(4):
                model(*self.samples(network, 16, seed))
        return model.eval()

    def export(self, network: str, path: Path, form: str) -> None:
        model, inputs = self.trained(network), self.samples(network, 1, 99)
        if form == "pt2":
            self.torch.export.save(self.torch.export.export(model, inputs), path)
        elif form == "onnx-old":
            self.torch.onnx.export(model, inputs, path, dynamo=False)
        else:
            self.torch.onnx.export(model, inputs, path, verbose=False)

    def quantize(self, network: str, source: Path, path: Path, form: str) -> None:
        from onnxruntime import InferenceSession, quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        names = [i.name for i in InferenceSession(str(source)).get_inputs()]
        sets = [self.samples(network, 1, 100 + i) for i in range(CALIBRATION)]
        fed = iter([{n: x.numpy() for n, x in zip(names, xs, strict=True)} for xs in sets])

        class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> Any:
                return next(fed, None)

        kinds, ready = quantization.QuantFormat, path.with_suffix(".ready")
        quant_pre_process(str(source), str(ready))
        quantization.quantize_static(
            str(ready), str(path), Reader(), per_channel=form == "qoperator",
            quant_format=kinds.QDQ if form == "qdq" else kinds.QOperator
        )  # fmt: skip
        ready.unlink()


def optimize(source: Path, path: Path) -> None:
    """What ONNX Runtime runs, as a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


class Keras:
    """Of `keras_networks`, by TensorFlow's converter."""

    def __init__(self) -> None:
        import keras  # type: ignore[import-not-found, unused-ignore]
        import keras_networks
        import tensorflow

        self.keras, self.lite, self.dtypes = keras, tensorflow.lite, tensorflow.dtypes
        self.own, self.networks = keras_networks, keras_networks.NETWORKS

    def forms(self, network: str) -> Iterator[str]:
        yield from ("tflite", "tflite-int8", "tflite-int16x8")

    def samples(self, network: str, count: int, seed: int) -> list[Any]:
        """Of each input."""
        rng, shapes = np.random.default_rng(seed), self.networks[network][0]
        if (ids := self.own.IDS.get(network)) is not None:
            return [rng.integers(ids, size=(count, *s), dtype=np.int32) for s in shapes]
        return [rng.standard_normal((count, *s), dtype=np.float32) for s in shapes]

    def trained(self, network: str) -> Any:
        """As those of Torch."""
        keras, (shapes, build) = self.keras, self.networks[network]
        keras.utils.set_random_seed(zlib.crc32(network.encode()))
        kind = "int32" if network in self.own.IDS else "float32"
        batch = 1 if network in self.own.FIXED else None
        inputs = [keras.Input(s, batch, dtype=kind) for s in shapes]
        model = keras.Model(inputs, build()(*inputs))
        rng = np.random.default_rng(0)
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.gamma.assign(rng.uniform(0.7, 1.3, layer.gamma.shape))
                layer.beta.assign(rng.normal(0, 0.2, layer.beta.shape))
        for seed in range(4):
            model(self.samples(network, batch or 16, seed), training=True)
        return model

    def write(self, network: str, form: str, folder: Path) -> Path:
        converter = self.lite.TFLiteConverter.from_keras_model(self.trained(network))
        if form != "tflite":
            sets, kinds = self.lite.OpsSet, self.dtypes
            wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            kind, words = {
                "tflite-int8": (kinds.int8, sets.TFLITE_BUILTINS_INT8),
                "tflite-int16x8": (kinds.int16, wide),
            }[form]
            converter.optimizations = [self.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                self.samples(network, 1, 100 + i) for i in range(CALIBRATION)
            )
            converter.target_spec.supported_ops = [words]
            converter.inference_output_type = kind
            if network not in self.own.IDS:
                converter.inference_input_type = kind
        path = folder / form / f"{network}.tflite"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(converter.convert())
        return path


@cache
def maker(package: str) -> Torch | Keras:
    """Of this process."""
    return Torch() if package == "torch" else Keras()


def make(options: argparse.Namespace) -> int:
    """Every network in every form that the packages which are here make."""
    known = {(f.network, f.form): f for f in listed(options.folder)}
    options.folder.mkdir(parents=True, exist_ok=True)
    for package in filter(find_spec, ("torch", "tensorflow")):
        workers = Workers()
        for entry in chosen(workers.call(wanted, package), options):
            try:
                found = workers.call(written, package, entry, options.folder)
            except BrokenProcessPool:
                found = replace(entry, why="it ends the process")
            known[entry.network, entry.form] = found
            files = sorted(map(asdict, known.values()), key=lambda e: (e["network"], e["form"]))
            (options.folder / "networks.json").write_text(json.dumps(files, indent=1) + "\n")
    for form in sorted({f.form for f in known.values()}):
        own = [f for f in known.values() if f.form == form]
        print(f"{form:16}{sum(bool(f.file) for f in own):4} files of {len(own)} networks")
    return 0


class Workers:
    """A process at a time that calls functions, and another when an exporter has ended it."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return self.pool.submit(function, *args).result()
        except BrokenProcessPool:
            self.__init__()  # type: ignore[misc]
            raise


def wanted(package: str) -> list[File]:
    own = maker(package)
    return [File(network, form) for network in own.networks for form in own.forms(network)]


def written(package: str, entry: File, folder: Path) -> File:
    try:
        path = maker(package).write(entry.network, entry.form, folder)
    except Exception as error:  # noqa: BLE001  # an exporter's words, whatever it throws
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return replace(entry, why=why)
    return replace(entry, file=str(path.relative_to(folder)))


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
    """The files that are listed; a line for each that is not right, and the table."""
    files = chosen(listed(options.folder), options)
    files.sort(key=lambda f: zlib.crc32(f"{f.form} {f.network}".encode()))
    start = time.monotonic()

    def one(entry: File) -> Found | None:
        if not entry.file:
            return Found("exporter", entry.why)
        if time.monotonic() > start + 60 * options.minutes:
            return None
        return tried(options.folder / entry.file, options.seconds)

    verdicts: Counter[tuple[str, str]] = Counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        for entry, found in zip(files, pool.map(one, files), strict=True):
            verdicts[entry.form, found.verdict if found else "untried"] += 1
            if found is not None and found.verdict != "right":
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


def words(text: str) -> list[str]:
    return text.split(",")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("what", choices=("make", "try"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forms", type=words, default=(), help="A,B,...; default: all")
    parser.add_argument("--only", type=words, default=(), help="networks; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="files at a time")
    parser.add_argument("--seconds", type=float, default=150, help="of one command")
    parser.add_argument("--minutes", type=float, default=1e6, help="then no other file is begun")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    return make(options) if options.what == "make" else attempt(options)


if __name__ == "__main__":
    sys.exit(main())
