"""Names in a body of operators, and one operator as it stands there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from midge.core.errors import ModelError


@dataclass(slots=True)
class Scope:
    """The graph, a function's body, or a branch.

    names: what the file calls a value -> what our graph calls it, or why it cannot be used.
    opsets: domain -> version.  given: a function's attributes by name, as protos.
    prefix: of the names of values in here.  src: the place of the operator that this stands for.
    own: names defined here.  absent: inputs of a function that its caller leaves out.
    """

    names: dict[str, str | ModelError]
    opsets: dict[str, int]
    given: dict[str, Any]
    prefix: str
    depth: int
    src: str = ""
    own: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def bind(self, name: str, own: str) -> None:
        self.names[name] = own
        self.own.add(name)

    def child(self, prefix: str, src: str) -> Scope:
        """A branch: it sees all names, what it defines is its own."""
        return Scope(
            dict(self.names), self.opsets, self.given, prefix, self.depth + 1, src,
            absent=set(self.absent),
        )  # fmt: skip

    def attributes(self, proto: Any) -> Sequence[Any]:
        """The attributes of an operator, those of the function's caller put in."""
        result = []
        for attr in proto.attribute:
            if not attr.ref_attr_name:
                result.append(attr)
            elif self.depth and attr.ref_attr_name in self.given:
                copied = type(attr)()
                copied.CopyFrom(self.given[attr.ref_attr_name])
                copied.name = attr.name
                result.append(copied)
            elif not self.depth:
                what = f"attribute {attr.name} refers to a function's, outside of a function"
                raise ModelError(what, where=proto.op_type)
        return result


@dataclass(slots=True)
class Call:
    """An operator: its inputs by our names ("" for an absent one), its outputs by the file's."""

    kind: str
    domain: str
    opset: int
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any]
    src: str
    where: str
    scope: Scope

    def error(self, what: str, hint: str = "") -> ModelError:
        return ModelError(what, where=self.where, hint=hint)
