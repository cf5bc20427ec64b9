"""Case n of a format and a seed: always the same damaged file."""

from __future__ import annotations

import random
from dataclasses import dataclass

from damaging import archives, onnx_messages, tflite_tables
from damaging.bytewise import BYTEWISE
from damaging.sources import sources

FORMATS = ("tflite", "onnx", "pt2", "keras", "midge")
_TRIES = 50
_INSIDE = 0.7  # of the bytewise damage of zip files: to what is in them


@dataclass(frozen=True, slots=True)
class Case:
    """kind: of the damage. structured: whether what contains it is whole. source: what it was."""

    form: str
    number: int
    kind: str
    structured: bool
    source: str
    data: bytes


def case(form: str, number: int, seed: int = 0) -> Case:
    """Even numbers are damaged byte by byte, odd ones in what the file says."""
    rng = random.Random(f"{form} {seed} {number}")
    if number % 2:
        return _structured(form, number, rng)
    source, data = rng.choice(sources(form))
    _, other = rng.choice(sources(form))
    kind = rng.choice(sorted(BYTEWISE))
    if data[:2] == b"PK" and rng.random() < _INSIDE:
        made = archives.damaged_inside(rng, BYTEWISE[kind], data)
    else:
        made = BYTEWISE[kind](rng, data, other)
    return Case(form, number, kind, False, source, made)


def _structured(form: str, number: int, rng: random.Random) -> Case:
    for _ in range(_TRIES):
        kind = rng.choice(kinds(form))
        source, data = rng.choice(sources(form))
        made = _made(form, kind, rng, data)
        if made is not None and made != data:
            return Case(form, number, kind, True, source, made)
    raise AssertionError(f"no damage was possible in {_TRIES} tries")


def kinds(form: str) -> tuple[str, ...]:
    """The kinds of changes to what a file of this format says."""
    match form:
        case "tflite":
            return tflite_tables.KINDS
        case "onnx":
            return onnx_messages.KINDS
    return archives.kinds(form)


def _made(form: str, kind: str, rng: random.Random, data: bytes) -> bytes | None:
    match form:
        case "tflite":
            return tflite_tables.damaged(rng, kind, data)
        case "onnx":
            return onnx_messages.damaged(rng, kind, data)
    return archives.damaged(rng, form, kind, data)
