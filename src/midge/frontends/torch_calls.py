"""Operators of a PyTorch program as the file has them: which tensors they read, which they change.

ATen says by the name: `add_` changes its first tensor, and so does `__iadd__`. What its names do
not say stands here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midge.core.errors import ModelError

# Named as if they changed something, but they change no value (dropout: outside of training).
_STILL = frozenset(
    "detach_ requires_grad_ dropout_ alpha_dropout_ feature_dropout_ feature_alpha_dropout_".split()
)
# Norms by name, and the argument for which they write running statistics instead of reading them.
_STATISTICS = {
    "batch_norm": "training",
    "native_batch_norm": "training",
    "_native_batch_norm_legit": "training",
    "instance_norm": "use_input_stats",
}
_WRITES_RESULTS = re.compile(r"(^|_)out|^(values|values_stable|dim_max|dim_min|dim_values)$")
# Arguments of which only the shape and the type matter.
_UNREAD = {name: "self" for name in "copy fill zero zeros_like ones_like full_like empty_like "
           "new_zeros new_ones new_full new_empty".split()}  # fmt: skip
_UNREAD |= {"expand_as": "other", "view_as": "other", "reshape_as": "other", "type_as": "other"}


@dataclass(frozen=True, slots=True)
class Call:
    """One operator. kind: aten.relu_.default.  tensors: (argument, value) in order.  flags: its
    arguments that are truth values.  src: for people."""

    kind: str
    tensors: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    flags: Mapping[str, bool]
    src: str

    @property
    def name(self) -> str:
        """relu_; "" of what is no ATen operator."""
        domain, *rest = self.kind.split(".")
        return rest[0] if domain == "aten" and rest else ""

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(value for _, value in self.tensors)

    @property
    def changed(self) -> tuple[str, ...]:
        """The values that it changes."""
        if self._writes_statistics:
            return self._of("running_mean", "running_var")
        name = self.name
        inplace = name.endswith("_") and (not name.startswith("__") or name.startswith("__i"))
        if not self.tensors or not inplace or name in _STILL:
            return ()
        return self._of(self.tensors[0][0])

    @property
    def read(self) -> tuple[str, ...]:
        """The values on which its results depend, also by what it leaves of them."""
        if self._writes_statistics:
            unread = {"running_mean", "running_var"}
        else:
            unread = {_UNREAD.get(self.name.removesuffix("_"), "")}
        return tuple(value for argument, value in self.tensors if argument not in unread)

    @property
    def known(self) -> bool:
        """Whether `changed` is all that it can change: others have to be known to Midge."""
        return bool(self.name) and not self._writes_statistics

    def check(self) -> None:
        """ModelError if it writes its results into tensors that it is given."""
        overload = self.kind.rpartition(".")[2].lower()
        if self.name and self.kind.count(".") > 1 and _WRITES_RESULTS.search(overload):
            raise ModelError(
                f"{self.kind} writes its result into an argument",
                where=self.src,
                hint="leave out= out, or ExportedProgram.run_decompositions()",
            )

    @property
    def _writes_statistics(self) -> bool:
        return bool(self.flags.get(_STATISTICS.get(self.name, "")))

    def _of(self, *arguments: str) -> tuple[str, ...]:
        return tuple(value for argument, value in self.tensors if argument in arguments)


def call_of(kind: str, node: Mapping[str, Any], src: str) -> Call:
    """An operator of the file, by its file's names."""
    tensors: list[tuple[str, str]] = []
    flags = {}
    for argument in node["inputs"]:
        ((form, value),) = argument["arg"].items()
        tensors += [(argument["name"], name) for name in names(form, value)]
        if form == "as_bool":
            flags[argument["name"]] = bool(value)
    outputs = [
        name for output in node["outputs"] for pair in output.items() for name in names(*pair)
    ]
    return Call(kind, tuple(tensors), tuple(outputs), flags, src)


def names(form: str, value: Any) -> Sequence[str]:
    """The tensors of an argument or a result."""
    match form:
        case "as_tensor":
            return [value["name"]]
        case "as_tensors":
            return [v["name"] for v in value]
        case "as_optional_tensor":
            return [] if "as_none" in value else [value["as_tensor"]["name"]]
        case "as_optional_tensors":
            return [v["as_tensor"]["name"] for v in value if "as_tensor" in v]
    return []
