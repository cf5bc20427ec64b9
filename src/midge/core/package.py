"""A compiled model: the folder of C as a value, with what a runner must know about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midge.core.folder import write_folder
from midge.core.given import of_kind, path_of
from midge.core.target import Target
from midge.core.texts import listed, shorten
from midge.core.trade_off import TradeOff
from midge.core.types import TensorType


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor at `offset` bytes into the arena. order: its axes as they lie there, the slowest
    first, if not as its type has them."""

    name: str
    type: TensorType
    offset: int
    order: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What a call leaves of a tensor: all of it, or `rows` of its axis 1, at `offset` bytes into
    the arena. plane: where the rows of a band lie channel by channel, elements from channel to
    channel; 0 if rows follow each other.  pitch: elements from pixel to pixel of what lies inside
    a tensor with more channels; 0 if pixels follow each other."""

    tensor: Tensor
    rows: tuple[int, int] | None
    offset: int
    plane: int = 0
    pitch: int = 0

    @property
    def size(self) -> int:
        """Bytes from the first to the last of its elements."""
        t = self.tensor.type
        if self.rows is None and not self.pitch:
            return t.size
        channels = t.shape[-1]
        count = t.elements // channels
        if self.rows is not None:
            count = (self.rows[1] - self.rows[0]) * t.shape[2]
        elements = (count - 1) * (self.pitch or channels) + channels
        if self.plane:
            elements = (channels - 1) * self.plane + count
        return elements * t.dtype.size


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a kernel: for the operator at this position, leaving `parts`."""

    operator: int
    kernel: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes offset <= byte < offset + size of the arena, that hold a part of buffer `name`.

    writes: positions of the calls that write it, -1 for the caller before the first one.  last:
    the last call that reads it; the number of calls if it stays.
    """

    name: str
    offset: int
    size: int
    writes: tuple[int, ...]
    last: int


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of the run function: a call of one kernel, or one for each band of rows.

    name: unique in the model, e.g. "conv2d_3".  kernel: the C function, shared by equal operators.
    kinds: the model's operators in it, e.g. ("CONV_2D", "RELU").  src: their place in the file.
    macs: multiply-accumulates of one inference.  outputs: what it leaves in the arena.
    """

    name: str
    kernel: str
    kinds: tuple[str, ...]
    src: str
    macs: int
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Pushes:
    """How a package takes frames, which are rows (axis 1) of its only input.

    hop: frames of a push.  count: pushes until there is a whole window, and outputs.  always:
    operators, the first ones, that every push calls; the others wait for a whole window.
    """

    hop: int
    count: int
    always: int

    def calls(self, package: Package, number: int) -> tuple[Call, ...]:
        """Those of `package` in push `number` since the last reset; from `count` on all are like
        the one before."""
        number = min(number, self.count - 1)
        stop = None if number + 1 == self.count else (number + 1) * self.always
        return package.calls[number * self.always : stop]


@dataclass(frozen=True, slots=True, repr=False)
class Package:
    """Generated C and its description. `name` is the prefix of every symbol.

    files: path -> text, in the order they are written.
    sources: the C files among them that a build compiles.
    calls: of a run in which operators take several; () if each is one call.
    arriving: whether the only input is fed row by row, and has no place in the arena.
    pushes: how frames are taken as they come, if they are; `calls` are then those of all pushes
    that a window takes.
    places: all that the arena holds during a run, if runners are to check that (see
    `midge.run.memory_check`); () if they are not.
    arena_size, weights_size: bytes of RAM and of constants in flash.
    pools: where the arena is in several memories, (name, first of the arena's addresses, bytes) of
    each; init takes the first, a function `use_NAME` each of the others.
    optimize: what its kernels were chosen for, and how it is built unless one asks otherwise.
    flash: bytes of constants and all code, where a limit was so near that they were linked; None
    where `weights_size` and the kernels' bytes are all that is known.
    trade_off: it beside the smallest and the fastest plan; None where these are not known.
    """

    name: str
    target: Target
    files: Mapping[str, str]
    sources: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    arena_size: int
    weights_size: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    optimize: str = "speed"
    calls: tuple[Call, ...] = ()
    arriving: bool = False
    pushes: Pushes | None = None
    places: tuple[Place, ...] = ()
    pools: tuple[tuple[str, int, int], ...] = ()
    flash: int | None = None
    trade_off: TradeOff | None = None

    def __repr__(self) -> str:
        """What it is, in a few lines; `files` has all of it."""
        inputs, outputs = ([(t.name, t.type) for t in own] for own in (self.inputs, self.outputs))
        return (
            f"<Package {shorten(self.name)} for {shorten(self.target.name)}\n"
            f"  arena {self.ram} bytes, constants {self.weights_size} bytes, "
            f"{len(self.operators)} operators, {len(self.files)} files\n"
            f"{listed('inputs', inputs)}\n{listed('outputs', outputs)}{self._traded()}>"
        )

    def _traded(self) -> str:
        lines = self.trade_off.told() if self.trade_off is not None else []
        return "".join(f"\n  {line}" for line in lines)

    @property
    def ram(self) -> int:
        """Bytes of all its arenas; of several memories `arena_size` counts what is between, too."""
        return sum(size for _, _, size in self.pools) or self.arena_size

    @property
    def first_size(self) -> int:
        """Bytes that init takes."""
        return self.pools[0][2] if self.pools else self.arena_size

    @property
    def entry(self) -> str:
        """The function that computes, without the prefix."""
        if self.pushes is not None:
            return "push"
        return "feed_rows" if self.arriving else "run"

    @property
    def all_calls(self) -> tuple[Call, ...]:
        """The calls of kernels in a run, in order."""
        if self.calls:
            return self.calls
        return tuple(
            Call(i, o.kernel, tuple(Part(t, None, t.offset) for t in o.outputs))
            for i, o in enumerate(self.operators)
        )

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the package into `folder`, whole or not at all.

        Files of an earlier package there are replaced or removed, other files never touched.
        UsageError if one was edited, or if the folder is not empty and Midge has not written it:
        with `force` files of the same names are overwritten.
        """
        path = path_of(folder, "folder")
        of_kind(force, "force", bool)
        write_folder(path, self.files, force=force)
        return path
