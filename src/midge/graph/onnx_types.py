"""Element types by their numbers in ONNX files (TensorProto.DataType of onnx/onnx.proto)."""

from __future__ import annotations

from midge.core.types import DType

DTYPES = {
    1: DType.F32, 2: DType.U8, 3: DType.I8, 5: DType.I16, 6: DType.I32, 7: DType.I64,
    9: DType.BOOL, 10: DType.F16,
}  # fmt: skip
