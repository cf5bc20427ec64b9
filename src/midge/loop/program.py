"""A whole model as loops: kernels, the operations that call them, and the buffers between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from midge.core.types import Array, TensorType
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.schedule import Step


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loop function, scheduled.

    plain: before `steps`.  instructions: by name, those that `steps` and `func` use.
    """

    func: ir.Func
    plain: ir.Func
    steps: tuple[Step, ...] = ()
    instructions: Mapping[str, Instruction] = field(default_factory=dict)

    @property
    def schedule(self) -> tuple[str, ...]:
        """The text of the steps, for the reader."""
        return tuple(map(str, self.steps))


@dataclass(frozen=True, slots=True)
class BandRows:
    """The rows of an argument that a band reads or writes: `count` from `stride` times the band's
    first row - `top` on.

    pointers: the kernel takes an array of pointers to them; else they lie in one piece, and it
    takes the place of the first. outside: the constant to which rows beyond the image point.
    """

    stride: int
    top: int
    count: int
    pointers: bool = False
    outside: str = ""


@dataclass(frozen=True, slots=True)
class BandCall:
    """The call of `kernel` that makes bands of `count` rows.

    rows: for each of `args` that is given by its rows; None for the others.  inplace, scratch: as
    of `Operation`.  order: as of `Candidate`.
    """

    count: int
    kernel: str
    args: tuple[str, ...]
    rows: tuple[BandRows | None, ...]
    inplace: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    order: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Bands:
    """How an operation is computed band by band.

    calls: one for each kind of band.  spans: (its position in `calls`, first row, row after the
    last) of every band; rows of the output, or of the input that is added up into it.
    """

    calls: tuple[BandCall, ...]
    spans: tuple[tuple[int, int, int], ...]
    accumulates: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of kernel `kernel` with buffers `args`, one per parameter.

    inplace: arguments (input buffers) over which the output may be written.
    scratch: arguments that hold nothing before and after.
    bands: of an operation that takes several calls; `kernel` and `args` are those of the first.
    order: as of `Candidate`.
    """

    name: str
    kernel: str
    args: tuple[str, ...]
    output: str
    kinds: tuple[str, ...]
    src: str
    macs: int
    inplace: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    bands: Bands | None = None
    order: tuple[tuple[int, int], ...] = ()

    @property
    def uses(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The kernels that are called, with their arguments."""
        if self.bands is None:
            return ((self.kernel, self.args),)
        return tuple((call.kernel, call.args) for call in self.bands.calls)

    @property
    def borders(self) -> tuple[str, ...]:
        """The constants that stand for rows beyond an image."""
        calls = self.bands.calls if self.bands is not None else ()
        return tuple(r.outside for c in calls for r in c.rows if r is not None and r.outside)


@dataclass(frozen=True, slots=True)
class Ring:
    """A buffer of rows that come `rows` at a time. height: rows that all readers together know, the
    last ones of a window.  slots: room for rows, `rows` or more of those of before.

    shifts: the rows move on when others come, and lie in order; else row r lies in slot
    r % slots, and a band in one piece, since `slots` is a multiple of `rows`.
    """

    rows: int
    height: int
    slots: int
    shifts: bool

    @property
    def kept(self) -> bool:
        """Whether rows stay from one push to the next."""
        return self.slots > self.rows


@dataclass(frozen=True, slots=True)
class Pushes:
    """Of a program that is computed for frames as they come: what a push of `hop` frames does.

    frames: of a window, along axis 1 of the only input.  rings: buffers whose rows are made a band
    at a time.  first: the position of the first operation that needs a whole window.
    """

    hop: int
    frames: int
    rings: Mapping[str, Ring]
    first: int

    @property
    def count(self) -> int:
        """Pushes until there is a whole window."""
        return -(-self.frames // self.hop)


@dataclass(frozen=True, slots=True)
class Inside:
    """Of a tensor that lies inside another one, `whole`: elements from the first of that to its
    own first, and from pixel to pixel (0: they lie as in a tensor of their own, or channel by
    channel with the distances of the whole)."""

    whole: str
    start: int
    pitch: int = 0


def resolve(aliases: Mapping[str, str], value: str) -> str:
    """What `value` is another name of, through any number of aliases."""
    while value in aliases:
        value = aliases[value]
    return value


@dataclass(frozen=True, slots=True)
class Program:
    """types: of every buffer (as the model states it).  aliases: value -> buffer that holds it.
    layouts: the axes of buffers that lie in another order than their types say.
    scattered: buffers whose bands (of these rows) lie anywhere; those with a layout keep the
    distance `planes` (in elements) between channels.  arriving: inputs that come row by row.
    pushes: how frames are taken as they come, if they are.
    inside: values that are written into another one, which several operations make.
    seen: inputs that are read as images of another shape; their rows are the rows of these.
    exact: floats become integers, so that none may be rounded otherwise than as written.
    consts: buffers in flash.  inputs, outputs: value names, resolved through `aliases`."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]
    consts: Mapping[str, Array]
    aliases: Mapping[str, str]
    kernels: tuple[Kernel, ...]
    operations: tuple[Operation, ...]
    layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    scattered: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    planes: Mapping[str, int] = field(default_factory=dict)
    arriving: frozenset[str] = frozenset()
    pushes: Pushes | None = None
    inside: Mapping[str, Inside] = field(default_factory=dict)
    seen: Mapping[str, TensorType] = field(default_factory=dict)
    exact: bool = False

    def home(self, value: str) -> str:
        """The buffer into which an operation writes `value`: its own or that of a larger one."""
        return self.buffer(self.inside[value].whole) if value in self.inside else value

    def buffer(self, value: str) -> str:
        """The buffer that holds `value`."""
        return resolve(self.aliases, value)

    def kernel(self, name: str) -> Kernel:
        return next(k for k in self.kernels if k.func.name == name)
