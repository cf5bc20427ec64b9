"""Which values of a PyTorch program are views of others, and which of them are out of date.

An exported program may still change tensors in place. The export renames the tensor that was
changed, but not the views of it, and not what it is a view of: they would show the change.
"""

from __future__ import annotations

from collections.abc import Sequence

from midge.core.errors import ModelError

# Results that share memory with their first argument (PyTorch may copy in reshape and contiguous).
_VIEWS = frozenset(
    "alias as_strided chunk contiguous detach diagonal expand expand_as flatten lift_fresh movedim "
    "narrow permute reshape select slice split split_with_sizes squeeze swapaxes t numpy_T "
    "tensor_split transpose unbind unfold unsqueeze view view_as unflatten to dropout".split()
)


class Views:
    """Follows a program operator by operator."""

    def __init__(self) -> None:
        self.base: dict[str, str] = {}
        self.family: dict[str, set[str]] = {}
        self.stale: dict[str, str] = {}

    def operator(self, kind: str, args: Sequence[str], outputs: Sequence[str], src: str) -> None:
        """One operator. kind: aten.relu_.default.  args: the tensors that it reads, the first of
        which it changes if its name ends in _.  ModelError if it reads what is out of date."""
        self.read(args, src)
        parts = kind.split(".")
        name = parts[1] if len(parts) > 1 else ""
        if not args or parts[0] != "aten":
            return
        base = self.base.get(args[0], args[0])
        changes = name.endswith("_") and not name.startswith("__")
        if changes:
            others = self.family.get(base, {base})
            self.stale |= {other: src for other in others}
        if changes or name.removesuffix("_copy") in _VIEWS:
            for output in outputs:
                self.base[output] = base
                self.family.setdefault(base, {base}).add(output)

    def read(self, names: Sequence[str], src: str) -> None:
        """ModelError if one of the values has been changed through another name."""
        for name in names:
            if name in self.stale:
                raise ModelError(
                    f"{name} was changed in place by {self.stale[name]}, through a view",
                    where=src,
                    hint="ExportedProgram.run_decompositions() writes such changes out",
                )
