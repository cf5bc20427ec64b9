"""The parts of a .pt2 file: the exported program as JSON, and the tensors' bytes.

The layout is that of torch.export.pt2_archive. Read without PyTorch: nothing in it is ever
unpickled, and what is stored as a pickle is refused.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from midge.core.damage import DamageError, damage
from midge.core.errors import ModelError
from midge.core.types import Array, DType
from midge.graph.untrusted import checked_shape

AGAIN = "get the file again, or export again with torch.export.save"
# torch.ScalarType, as torch.export writes it.
DTYPES = {
    1: DType.U8, 2: DType.I8, 3: DType.I16, 4: DType.I32, 5: DType.I64, 6: DType.F16,
    7: DType.F32, 12: DType.BOOL,
}  # fmt: skip
_MOST = 1 << 31  # bytes of all that is unpacked
_GROWTH = 64  # of an entry over what it is packed in: more is no model


class Archive:
    """model: of `models/model.json`.  tensor(kind, name): weights and constants by their names."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        try:
            self.zip = zipfile.ZipFile(io.BytesIO(data))
        except zipfile.BadZipFile as error:
            raise self.error(f"this is not a .pt2 file: {damage(error)}") from error
        entries = self.zip.infolist()
        if sum(e.file_size for e in entries) > min(_MOST, _GROWTH * len(data) + (1 << 20)):
            raise self.error("the file unpacks to more than it can hold")
        roots = {e.filename.partition("/")[0] for e in entries}
        self.root = roots.pop() if len(roots) == 1 else ""
        self.model: Mapping[str, Any] = self.json("models/model.json")
        self.files: dict[str, Mapping[str, Any]] = {}
        for kind in ("weights", "constants"):
            self.files[kind] = self.json(f"data/{kind}/model_{kind}_config.json").get("config", {})

    def error(self, what: str, hint: str = AGAIN) -> ModelError:
        return ModelError(what, where=self.name, hint=hint)

    def read(self, path: str) -> bytes:
        try:
            return self.zip.read(f"{self.root}/{path}")
        except KeyError:
            raise self.error(f"the file has no {path}", "export with torch.export.save") from None

    def json(self, path: str) -> Any:
        try:
            found = json.loads(self.read(path))
        except (ValueError, RecursionError) as error:
            raise self.error(f"{path} is damaged: {damage(error)}") from error
        if not isinstance(found, dict):
            raise self.error(f"{path} is damaged")
        return found

    def tensor(self, kind: str, name: str) -> Array:
        """The values of a weight or a constant. ModelError if they are not there, or pickled."""
        entry = self.files[kind].get(name)
        if entry is None:
            raise self.error(f"no data of {name!r}")
        if entry.get("use_pickle"):
            raise self.error(
                f"{name!r} is stored as a pickle, which is never loaded",
                "export the model with plain tensors as weights",
            )
        meta = entry["tensor_meta"]
        shape, strides = (tuple(_plain(v) for v in meta[k]) for k in ("sizes", "strides"))
        dtype = dtype_of(meta["dtype"], f"{self.name}: {name}")
        checked_shape(shape, f"{self.name}: {name}")
        if len(strides) != len(shape) or min(strides, default=0) < 0:
            raise self.error(f"strides {strides} of {name!r} do not fit {shape}")
        flat = np.frombuffer(self.read(f"data/{kind}/{entry['path_name']}"), dtype.numpy)
        start = _plain(meta["storage_offset"])
        reach = start + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
        if prod(shape) and not 0 <= start <= reach <= flat.size:
            raise self.error(f"{name!r} has {flat.size} elements, {reach} are needed")
        if not prod(shape):
            return np.zeros(shape, dtype.numpy)
        steps = [s * dtype.size for s in strides]
        view = np.lib.stride_tricks.as_strided(flat[start:], shape, steps)
        return np.ascontiguousarray(view).reshape(shape)


def _plain(value: Any) -> int:
    number = value.get("as_int") if isinstance(value, dict) else value
    if not isinstance(number, int):
        raise DamageError(f"a dimension is {value}")
    return number


def dtype_of(code: Any, where: str) -> DType:
    """ModelError for an element type that Midge does not have."""
    if code not in DTYPES:
        names = {8: "float64", 9: "complex32", 10: "complex64", 13: "bfloat16"}
        have = names.get(code, f"number {code}")
        known = ", ".join(d.value for d in DTYPES.values())
        what = f"element type {have} is not supported"
        raise ModelError(what, where=where, hint=f"model.float() before export; supported: {known}")
    return DTYPES[code]
