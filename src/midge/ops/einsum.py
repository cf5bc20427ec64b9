"""ONNX's Einsum by transpositions, sums and matrix products; two operands at a time.

A value with letters for its axes is a `_Term`. Letters that neither another term nor the result has
are summed; then a and b become batches of matrices over the letters that both have and that remain,
those of one of them, and those that both have and that vanish.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node
from midge.ops.matmul import multiplied


@dataclass(frozen=True, slots=True)
class _Term:
    """value: its name.  letters: of its axes, each once."""

    value: str
    letters: str


class _Einsum:
    def __init__(self, op: Foreign) -> None:
        self.op, self.steps = op, Steps(op)

    def run(self) -> tuple[Node, ...]:
        inputs, output = self.parsed()
        terms = [self.diagonal(n, s) for n, s in zip(self.op.inputs, inputs, strict=True)]
        extents: dict[str, int] = {}
        for t in terms:
            for letter, n in zip(t.letters, self.shape(t), strict=True):
                if extents.setdefault(letter, n) not in (n, 1) and n != 1:
                    raise self.op.error(f"letter {letter} is both {extents[letter]} and {n}")
                extents[letter] = max(extents[letter], n)
        if not set(output) <= extents.keys() or len(set(output)) != len(output):
            raise self.op.error(f"the result {output!r} has letters twice, or of no operand")
        terms = [self.squeezed(t, extents) for t in terms]
        while len(terms) > 1:
            a, b, *rest = terms
            kept = set(output).union(*(t.letters for t in rest))
            terms = [self.product(a, b, kept), *rest]
        (last,) = terms
        last = self.summed(last, set(output))
        result = self.transposed(last, output)
        shape = tuple(extents[c] for c in output)
        if self.steps.type(result.value).shape != shape:
            raise self.op.error(f"the result would be {self.steps.type(result.value)}")
        if result.value in self.op.inputs:
            return self.steps.finish("copy", [result.value])
        return self.steps.renamed()

    def shape(self, t: _Term) -> tuple[int, ...]:
        return self.steps.type(t.value).shape

    def parsed(self) -> tuple[list[str], str]:
        """Letters of each operand and of the result, those of an ellipsis made up."""
        text = str(self.op.attrs.get("equation", "")).replace(" ", "")
        left, arrow, right = text.partition("->")
        inputs = left.split(",")
        if len(inputs) != len(self.op.inputs):
            raise self.op.error(f"equation {text!r} is not one of {len(self.op.inputs)} operands")
        free = [c for c in string.ascii_letters if c not in text]
        ranks = [
            len(self.op.type(i).shape) - len(s.replace("...", "")) for i, s in enumerate(inputs)
        ]
        most = max(r if "..." in s else 0 for r, s in zip(ranks, inputs, strict=True))
        if most > len(free):
            raise self.op.error(f"equation {text!r} has too many axes")
        made = "".join(free[: max(most, 0)])
        full = []
        for i, (rank, s) in enumerate(zip(ranks, inputs, strict=True)):
            if rank < 0 or (rank > 0 and "..." not in s):
                raise self.op.error(f"equation {text!r} does not fit operand {i}")
            full.append(s.replace("...", made[len(made) - rank :]))
        if not arrow:
            names = "".join(full)
            single = sorted(c for c in set(names) if names.count(c) == 1 and c not in made)
            right = ("..." if made else "") + "".join(single)
        result = right.replace("...", made)
        if not all(c in string.ascii_letters for c in "".join((*full, result))):
            raise self.op.error(f"equation {text!r} is not supported")
        return full, result

    def diagonal(self, name: str, letters: str) -> _Term:
        """Axes with the same letter become one: every (n + 1)-th element of both together."""
        for c in set(letters):
            while letters.count(c) > 1:
                first = letters.index(c)
                second = letters.index(c, first + 1)
                rest = [d for d in range(len(letters)) if d not in (first, second)]
                name = self.steps.emit("transpose", [name], {"perm": (*rest, first, second)})
                *lead, n, m = self.steps.type(name).shape
                if n != m:
                    raise self.op.error(f"letter {c} is both {n} and {m}")
                name = self.steps.emit("reshape", [name], {"shape": (*lead, n * n)})
                attrs = {
                    "begin": (0,) * (len(lead) + 1),
                    "size": (*lead, n),
                    "strides": (*(1 for _ in lead), n + 1),
                }
                name = self.steps.emit("slice", [name], attrs)
                letters = "".join(letters[d] for d in rest) + c
        return _Term(name, letters)

    def squeezed(self, t: _Term, extents: dict[str, int]) -> _Term:
        """Without axes that are broadcast."""
        kept = [d for d, c in enumerate(t.letters) if self.shape(t)[d] == extents[c]]
        return self.reshaped(t, [self.shape(t)[d] for d in kept], [t.letters[d] for d in kept])

    def reshaped(self, t: _Term, shape: Sequence[int], letters: Sequence[str]) -> _Term:
        if self.shape(t) == tuple(shape):
            return _Term(t.value, "".join(letters))
        value = self.steps.emit("reshape", [t.value], {"shape": tuple(shape)})
        return _Term(value, "".join(letters))

    def summed(self, t: _Term, kept: set[str]) -> _Term:
        axes = tuple(d for d, c in enumerate(t.letters) if c not in kept)
        if not axes:
            return t
        total = _Term(self.steps.emit("sum", [t.value], {"axes": axes}), t.letters)
        left = [d for d in range(len(t.letters)) if d not in axes]
        return self.reshaped(total, [self.shape(t)[d] for d in left], [t.letters[d] for d in left])

    def transposed(self, t: _Term, letters: str) -> _Term:
        perm = tuple(t.letters.index(c) for c in letters)
        if perm == tuple(range(len(perm))):
            return t
        array = self.steps.constant(t.value)
        if array is not None:
            turned = np.ascontiguousarray(array.transpose(perm))
            return _Term(self.steps.const(turned, "turned"), letters)
        return _Term(self.steps.emit("transpose", [t.value], {"perm": perm}), letters)

    def product(self, a: _Term, b: _Term, kept: set[str]) -> _Term:
        a = self.summed(a, kept | set(b.letters))
        b = self.summed(b, kept | set(a.letters))
        both = [c for c in a.letters if c in b.letters]
        batch = "".join(c for c in both if c in kept)
        inner = "".join(c for c in both if c not in kept)
        left = "".join(c for c in a.letters if c not in both)
        right = "".join(c for c in b.letters if c not in both)
        size = dict(zip(a.letters, self.shape(a), strict=True))
        size |= dict(zip(b.letters, self.shape(b), strict=True))

        def count(letters: str) -> int:
            return prod(size[c] for c in letters)

        lead = [count(batch)] if batch else []
        a = self.matrices(
            self.transposed(a, batch + left + inner), [*lead, count(left), count(inner)]
        )
        b = self.matrices(
            self.transposed(b, batch + right + inner), [*lead, count(right), count(inner)]
        )
        value = multiplied(self.steps, a.value, b.value, turned=True)
        letters = batch + left + right
        return self.reshaped(_Term(value, letters), [size[c] for c in letters], letters)

    def matrices(self, t: _Term, shape: Sequence[int]) -> _Term:
        array = self.steps.constant(t.value)
        if array is not None:
            return _Term(self.steps.const(array.reshape(shape), "matrix"), "")
        return self.reshaped(t, shape, "")


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1, 16)
    op.expect_dtype(0, DType.F32, DType.I32, DType.I64)
    for i in range(len(op.inputs)):
        op.expect_dtype(i, op.type(0).dtype)
    return _Einsum(op).run()


IMPORTERS["onnx"].add("Einsum", from_onnx)
