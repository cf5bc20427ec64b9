"""Which values of a PyTorch program are views of others, which of them are out of date, and what
the program changes that was there before it.

An exported program may still change tensors in place. The export renames the tensor that was
changed, but not the views of it, and not what it is a view of: they would show the change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from midge.core.errors import ModelError
from midge.frontends.torch_calls import Call

# Results that share memory with their first argument (PyTorch may copy in reshape and contiguous).
_VIEWS = frozenset(
    "_reshape_alias _unsafe_view alias alpha_dropout as_strided atleast_1d atleast_2d "
    "atleast_3d broadcast_to chunk contiguous detach diagonal dropout "
    "dsplit expand expand_as feature_alpha_dropout feature_dropout flatten hsplit "
    "lift_fresh matrix_H mH moveaxis movedim mT narrow numpy_T permute positive ravel "
    "requires_grad reshape reshape_as select slice split split_with_sizes squeeze "
    "swapaxes swapdims t tensor_split to transpose type_as unbind unflatten unfold "
    "unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze view view_as vsplit".split()
)
# Of these, those that copy where the result differs in type or order from the argument.
_CONVERSIONS = frozenset(("to", "type_as", "contiguous"))


class Views:
    """Follows a program call by call. tensors: what the file says of each value.
    changed: values that are no view of anything -> the call that changed them."""

    def __init__(self, tensors: Mapping[str, Any] | None = None) -> None:
        self.tensors = tensors or {}
        self.base: dict[str, str] = {}
        self.family: dict[str, set[str]] = {}
        self.stale: dict[str, str] = {}
        self.changed: dict[str, str] = {}

    def operator(self, call: Call) -> None:
        """One operator. ModelError if it reads what is out of date."""
        self.read(call.values, call.src)
        for value in call.changed:
            base = self.base.get(value, value)
            self.changed.setdefault(base, call.src)
            self.stale |= dict.fromkeys(self.family.get(base, {base}), call.src)
        if call.changed or self._is_view(call):
            first = (call.changed or call.values)[0]
            base = self.base.get(first, first)
            self.family.setdefault(base, {base}).update(call.outputs)
            self.base |= dict.fromkeys(call.outputs, base)

    def read(self, values: Sequence[str], src: str) -> None:
        """ModelError if one of the values has been changed through another name."""
        for value in values:
            if value in self.stale:
                raise ModelError(
                    f"{value} was changed in place by {self.stale[value]}, under another name",
                    where=src,
                    hint="ExportedProgram.run_decompositions() writes such changes out",
                )

    def _is_view(self, call: Call) -> bool:
        if not call.tensors or call.name.removesuffix("_") not in _VIEWS:
            return False
        alike = [self._form(v) for v in (call.values[0], *call.outputs)]
        return call.name not in _CONVERSIONS or alike[0] == alike[-1]

    def _form(self, value: str) -> tuple[Any, Any]:
        meta = self.tensors.get(value, {})
        return meta.get("dtype"), meta.get("strides")
