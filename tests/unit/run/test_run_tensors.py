"""Arrays to bytes of an arena and back."""

from __future__ import annotations

import numpy as np
import pytest

from midge.core.errors import RunError
from midge.core.package import Tensor
from midge.core.types import DType, TensorType
from midge.run.tensors import GUARD, GUARD_SIZE, arena_start, check_guards, decode, encode_inputs
from tiny_package import some_input, tiny_package


def test_an_arena_is_aligned_as_promised_and_no_better() -> None:
    for lowest in range(200):
        start = arena_start(lowest)
        assert lowest <= start < lowest + 32
        assert start % 16 == 0
        assert start % 32 == 16


@pytest.mark.parametrize("dtype", list(DType))
def test_every_type_survives(dtype: DType) -> None:
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype.numpy)
    tensor = Tensor("t", TensorType((2, 3), dtype), 0)
    data = values.astype(dtype.numpy.newbyteorder("<")).tobytes()
    back = decode(tensor, data)
    assert back.dtype == dtype.numpy
    np.testing.assert_array_equal(back, values)


def test_inputs_in_any_memory_order() -> None:
    x = some_input()
    ((tensor, data),) = encode_inputs(tiny_package(), {"x": np.asfortranarray(x)})
    assert tensor.name == "x"
    assert data == x.tobytes()


def test_the_farthest_byte_around_the_arena_is_told() -> None:
    package = tiny_package()
    check_guards(package, GUARD, GUARD)
    for index, place in ((0, f"{GUARD_SIZE} bytes before"), (GUARD_SIZE - 1, "1 bytes before")):
        with pytest.raises(RunError, match=place):
            check_guards(package, _changed(index), GUARD)
    with pytest.raises(RunError, match="up to 8 bytes after"):
        check_guards(package, GUARD, _changed(7))


def _changed(index: int) -> bytes:
    return GUARD[:index] + b"\0" + GUARD[index + 1 :]
