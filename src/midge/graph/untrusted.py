"""Files that are not trusted: sizes that no model has, and what reading a damaged one raises."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import numpy as np

from midge.core.damage import damage
from midge.core.errors import MidgeError, ModelError, VerifyError
from midge.core.types import Array

MAX_ELEMENTS = 1 << 28
MAX_RANK = 8


def checked_shape(shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    """ModelError for a shape that no tensor of a model has."""
    if len(shape) > MAX_RANK or any(d < 0 for d in shape) or prod(shape) > MAX_ELEMENTS:
        limits = f"at most {MAX_RANK} dimensions and {MAX_ELEMENTS} elements"
        raise ModelError(f"shape {shape} is not possible", where=where, hint=limits)
    return shape


def check_numbers(array: Array, where: str) -> None:
    """ModelError for a constant with NaN in it. Infinities are thresholds and masks."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ModelError(
            "the constant has values that are no numbers (NaN)",
            where=where,
            hint="the training has diverged: train again",
        )


@contextmanager
def broken_file(name: str, again: str) -> Iterator[None]:
    """Whatever reading a corrupt file raises, as a ModelError with the hint `again`."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except VerifyError as error:
        raise ModelError(error.what, where=error.where, hint=error.hint) from None
    except (MidgeError, AssertionError):
        raise
    # Parsers, and the reference implementation of constant operators, raise whatever they like.
    except Exception as error:
        what = f"the file is damaged: {damage(error)}"
        raise ModelError(what, where=name, hint=again) from error
