"""From the order of operations to buffers with lifetimes, sharing memory in place where allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from midge.plan.planner import Buffer, Plan, live_bytes, plan


@dataclass(frozen=True, slots=True)
class Use:
    """One operation: the tensors it reads, the one it writes, those it may overwrite, and buffers
    that it alone uses."""

    reads: tuple[str, ...]
    writes: str
    inplace: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arena:
    """offsets of every tensor; plan of the buffers behind them; shared: tensor -> the tensor in
    whose place it is written; lifetimes: tensor -> (start, stop) in operations; live: bytes alive
    at each operation, memory that tensors share counted once."""

    offsets: Mapping[str, int]
    plan: Plan
    shared: Mapping[str, str]
    lifetimes: Mapping[str, tuple[int, int]]
    live: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.plan.peak


def plan_arena(
    uses: Sequence[Use],
    inputs: Sequence[str],
    outputs: Sequence[str],
    sizes: Mapping[str, int],
    aligns: Mapping[str, int],
) -> Arena:
    """Offsets for all tensors of `uses`; inputs live from the start, outputs to the end.

    The memory of an input is reused once it is dead. sizes in bytes, for inputs and all written.
    """
    lifetimes = _lifetimes(uses, inputs, outputs)
    shared = _share(uses, lifetimes, sizes, frozenset(outputs))
    owner = {name: _owner(shared, name) for name in lifetimes}
    groups: dict[str, list[str]] = {}
    for name, base in owner.items():
        groups.setdefault(base, []).append(name)
    buffers = [
        Buffer(
            base,
            max(sizes[n] for n in names),
            min(lifetimes[n][0] for n in names),
            max(lifetimes[n][1] for n in names),
            max(aligns[n] for n in names),
        )
        for base, names in groups.items()
    ]
    result = plan(buffers)
    offsets = {name: result.offsets[owner[name]] for name in lifetimes}
    live = tuple(live_bytes(buffers, step) for step in range(len(uses)))
    return Arena(offsets, result, shared, lifetimes, live)


def _lifetimes(
    uses: Sequence[Use], inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, tuple[int, int]]:
    spans = {name: (0, 1) for name in inputs}
    for step, use in enumerate(uses):
        for name in use.reads:
            start, stop = spans[name]
            spans[name] = (start, max(stop, step + 1))
        for name in (use.writes, *use.scratch):
            spans[name] = (step, step + 1)
    for name in outputs:
        spans[name] = (spans[name][0], max(len(uses), 1))
    return spans


def _share(
    uses: Sequence[Use],
    lifetimes: Mapping[str, tuple[int, int]],
    sizes: Mapping[str, int],
    kept: frozenset[str],
) -> dict[str, str]:
    """Output -> input it overwrites: one that dies in the same step and has the same size.

    Those in `kept`, the model's outputs, never die: the last step must not overwrite them either.
    """
    shared: dict[str, str] = {}
    for step, use in enumerate(uses):
        for name in use.inplace:
            dies = lifetimes[name][1] == step + 1 and name not in kept
            if dies and sizes[name] == sizes[use.writes] and name != use.writes:
                shared[use.writes] = name
                break
    return shared


def _owner(shared: Mapping[str, str], name: str) -> str:
    while name in shared:
        name = shared[name]
    return name
