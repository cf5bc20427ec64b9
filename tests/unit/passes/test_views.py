"""Views of tensors: which shapes they can be seen in, and what they show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midge.passes.views import View, frame

SHAPES = {  # shape of a tensor, and what of it a view without a copy can be
    (6, 2): {(12,): True, (2, 3, 2): True, (3, 4): True, (4, 3): False},
    (4, 3): {(6, 2): False, (2, 6): True, (2, 2, 3): True},
    (1, 5): {(5,): True, (5, 1, 1): True},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_a_transposed_tensor(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    turned = View.of("x", shape[::-1]).transposed(range(len(shape))[::-1])
    for wanted, possible in SHAPES[shape].items():
        view = turned.reshaped(wanted)
        assert (view is not None) == possible
        if view is not None:
            shown = view.computed(np.ascontiguousarray(array.T))
            np.testing.assert_array_equal(shown, array.reshape(wanted))


def test_parts_that_cannot_be_told_apart() -> None:
    """Rows of 3 x 2 as rows of 2 x 3; and two axes as one."""
    turned = View.of("x", (2, 3)).transposed((1, 0)).reshaped((6,))
    assert turned is not None
    assert turned.split_like([(2, 3)]) is None
    assert turned.split_like([(6,)]) is None
    split = turned.split_like([(3, 2)])
    assert split is not None
    assert split.groups == ((1, 0),)
    leader = View.of("y", (2, 3)).transposed((0, 1)).reshaped((6,))
    assert leader is not None
    assert frame(leader, turned, [None]) is None
    assert frame(turned, turned, [None]) is not None


def test_permutations() -> None:
    assert View.of("x", (4, 3)).transposed((1, 0)).permutation() == (1, 0)
    assert View.of("x", (1, 4, 3)).transposed((2, 0, 1)).permutation() == (2, 0, 1)
    merged = View.of("x", (4, 3)).transposed((1, 0)).reshaped((12, 1))
    assert merged is not None
    assert merged.permutation() is None
    split = View.of("x", (4, 3)).reshaped((2, 2, 3))
    assert split is not None
    assert split.permutation() == (0, 1, 2)


@given(st.permutations([1, 2, 3, 4]), st.permutations(range(4)), st.data())
def test_what_is_shown_is_the_reshaped_array(
    shape: list[int], perm: list[int], data: st.DataObject
) -> None:
    array = np.arange(24).reshape(shape)
    view = View.of("x", tuple(shape)).transposed(perm)
    wanted = data.draw(st.sampled_from([(24,), (2, 12), (4, 6), (3, 8), (2, 3, 4), (6, 4), (8, 3)]))
    made = view.reshaped(wanted)
    if made is not None:
        shown = array.transpose(perm).reshape(wanted)
        np.testing.assert_array_equal(made.computed(array), shown)
