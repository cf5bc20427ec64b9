"""Files that hold models, and that Midge cannot read: which they are, and what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from midge.core.errors import ModelError
from midge.frontends import FRONTENDS, Frontend
from midge.frontends.shapes import Shapes
from midge.graph.ir import Graph

_ZIP = b"PK\x03\x04"
_END = 1 << 20  # bytes at the end of a zip that have its names
_EXPORTED = (
    "export it where the module is defined: "
    "torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2')"
)
_TREES = "export it to ONNX (onnxmltools or the library's own exporter)"


def _ends(data: bytes, *names: bytes) -> bool:
    return data[:4] == _ZIP and any(name in data[-_END:] for name in names)


def is_torchscript(data: bytes) -> bool:
    return _ends(data, b"/constants.pkl") and not _ends(data, b"/archive_format")


def is_torch_save(data: bytes) -> bool:
    """Of torch.save, which pickles: modules, checkpoints, weights."""
    return _ends(data, b"/data.pkl") and not _ends(data, b"/archive_format", b"/constants.pkl")


def is_gguf(data: bytes) -> bool:
    return data[:4] == b"GGUF"


def is_nothing(data: bytes) -> bool:
    """Of formats that are known by their suffix alone."""
    return False


def _add(
    name: str, suffixes: tuple[str, ...], matches: Callable[[bytes], bool], what: str, hint: str
) -> None:
    def read(data: bytes, name: str, shapes: Shapes) -> NoReturn:
        raise ModelError(what, where=name, hint=hint)

    reader: Callable[[bytes, str, Shapes], Graph] = read
    FRONTENDS.add(name, Frontend(name, suffixes, matches, reader, offered=False))


_add(
    "torchscript",
    (".ptl",),
    is_torchscript,
    "this is a TorchScript module, which is not read",
    _EXPORTED,
)
_add(
    "torch checkpoint",
    (".pt", ".pth", ".ckpt"),
    is_torch_save,
    "this is a file of torch.save: weights or a pickled module, without the operators between them",
    _EXPORTED,
)
_add(
    "pickle",
    (".pkl", ".pickle", ".joblib"),
    is_nothing,
    "this is a pickle, and reading it would run what is in it",
    "of scikit-learn: midge.save(midge.from_sklearn(model), 'model.midge') in Python",
)
_add(
    "safetensors",
    (".safetensors",),
    is_nothing,
    "this file has weights and no operators",
    "export the model with them: to .pt2, .onnx or .tflite",
)
_add(
    "GGUF",
    (".gguf",),
    is_gguf,
    "this is a language model's weights, without operators",
    "language models of this kind are too large for microcontrollers",
)
_add(
    "frozen graph",
    (".pb", ".pbtxt"),
    is_nothing,
    "TensorFlow's graph definitions are not read",
    "save the model as a SavedModel's folder or .keras, or convert it to .tflite",
)
_add(
    "checkpoint",
    (".index", ".meta"),
    is_nothing,
    "this is a TensorFlow checkpoint: weights alone",
    "save the model: model.save('model.keras')",
)
_add(
    "boosted trees",
    (".ubj", ".cbm", ".lgb"),
    is_nothing,
    "this format of trees is not read",
    _TREES,
)
_add(
    "OpenVINO",
    (".xml",),
    is_nothing,
    "OpenVINO's format is not read",
    "give the .onnx or .tflite file that it was made of",
)
_add(
    "Core ML", (".mlmodel", ".mlpackage"), is_nothing, "Core ML's format is not read",
    "give the .onnx, .pt2 or .tflite file that it was made of",
)  # fmt: skip
