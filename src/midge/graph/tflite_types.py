"""Element types by their numbers in TFLite files (TensorType of lite/schema/schema.fbs)."""

from __future__ import annotations

from midge.core.types import DType

DTYPES = {
    0: DType.F32, 1: DType.F16, 2: DType.I32, 3: DType.U8, 4: DType.I64, 6: DType.BOOL,
    7: DType.I16, 9: DType.I8,
}  # fmt: skip
CODES = {dtype: code for code, dtype in DTYPES.items()}
