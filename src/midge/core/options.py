"""How a model is to be compiled: one value, declared once for commands, Python and caches."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from midge.core.errors import UsageError
from midge.core.sizes import SIZES, size_in

GOALS = ("speed", "balanced", "size", "debug")
MOST_BYTES = (1 << 32) - 1  # of a memory
_MOST_TOGETHER = (1 << 31) - (1 << 16)  # of memories whose addresses follow each other in an int32

Pools = tuple[tuple[str, int], ...]
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Flag:
    """How a command line says an option, and what it means.

    words: as typer takes them, "--on/--off" for a switch.  parse: of the text behind it, for what
    is no bool, int or plain text; of a list of texts where `many`.
    """

    words: tuple[str, ...]
    help: str
    metavar: str | None = None
    parse: Callable[[Any, str], Any] | None = None
    many: bool = False

    @property
    def word(self) -> str:
        """The name in messages."""
        return self.words[0].split("/")[0]


def byte_size(text: str, option: str) -> int:
    """A size as `size_in` reads it. UsageError for anything else."""
    try:
        return _addressable(size_in(text), option)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}", where=option, hint=SIZES) from None


def _addressable(size: int, option: str) -> int:
    if size > MOST_BYTES:
        raise UsageError(
            "is more than 32 bits address", where=option, hint=f"at most {MOST_BYTES} bytes"
        )
    return size


def pool_sizes(texts: list[str], option: str) -> Pools:
    """["dtcm=16K", ...] as names and bytes. UsageError for anything else."""
    found = []
    for text in texts:
        name, _, size = text.partition("=")
        bytes_ = byte_size(size, option) if size else None
        if not name or not bytes_:
            raise UsageError(f"{text!r} is not NAME=BYTES", where=option, hint="e.g. dtcm=16K")
        found.append((name.strip(), bytes_))
    return tuple(found)


def input_shapes(texts: list[str], option: str) -> Shapes:
    """["x=1,16,3", ...] as names and shapes. UsageError for anything else."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for text in texts:
        name, _, shape = text.rpartition("=")
        sizes = [n.strip() for n in shape.split(",")] if shape.strip() else []
        if not name or not all(n.isascii() and n.isdecimal() and len(n) < 10 for n in sizes):
            raise UsageError(f"{text!r} is not NAME=SIZE,...", where=option, hint=_A_SHAPE)
        if any(name.strip() == own for own, _ in found):
            raise UsageError(f"names {name.strip()!r} twice", where=option, hint="give it once")
        found.append((name.strip(), tuple(map(int, sizes))))
    return tuple(found)


def registers(texts: list[str], option: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.strip().lower() for text in texts))


_A_SHAPE = "the size of every dimension, e.g. input=1,16,3"


def _said(*words: str, **about: Any) -> dict[str, Flag]:
    return {"flag": Flag(words, **about)}


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How a model is to be compiled. UsageError for values that do not exist or go together.

    Every command that compiles takes all of them, `midge.compile` by name; what each means is said
    beside it. Sizes are bytes.
    """

    name: str | None = field(
        default=None,
        metadata=_said("--name", help="Prefix of all C symbols; default: made of the file's name."),
    )
    shapes: Shapes = field(
        default=(),
        metadata=_said(
            "--shape",
            help="The shape of an input whose dimensions the file leaves open, e.g. --shape "
            "input=1,16,3.",
            metavar="NAME=SIZE,...",
            parse=input_shapes,
            many=True,
        ),
    )
    optimize: str = field(
        default="speed", metadata=_said("--optimize", "-O", help="speed, balanced, size or debug.")
    )
    search: bool = field(
        default=True,
        metadata=_said(
            "--search/--no-search",
            help="Measure the ways to compute each operator in the emulator and take the "
            "best, or take the first.",
        ),
    )
    prove: bool = field(
        default=True,
        metadata=_said(
            "--prove/--no-prove",
            help="Run every kernel that is taken beside its plain loops once, and take another one "
            "where they differ.",
        ),
    )
    static_arena: bool = field(
        default=False, metadata=_said("--static-arena", help="Let the package bring its own arena.")
    )
    max_ram: int | None = field(
        default=None,
        metadata=_said(
            "--max-ram",
            help="The fastest plan whose arena is no larger, e.g. 64K; fail without one.",
            metavar="BYTES",
            parse=byte_size,
        ),
    )
    max_flash: int | None = field(
        default=None,
        metadata=_said(
            "--max-flash",
            help="Smaller kernels where faster ones would not fit; fail if not even they do.",
            metavar="BYTES",
            parse=byte_size,
        ),
    )
    oversize: bool = field(
        default=False,
        metadata=_said(
            "--oversize", help="Go on where the board's own RAM or flash would be exceeded."
        ),
    )
    bands: bool = field(
        default=True,
        metadata=_said(
            "--bands/--whole-tensors",
            help="Compute operators some rows at a time where that needs less RAM, or only as a "
            "whole.",
        ),
    )
    stream_input: bool = field(
        default=False,
        metadata=_said(
            "--stream-input",
            help="The caller hands over the input row by row; no buffer holds it all.",
        ),
    )
    stream_time: int | None = field(
        default=None,
        metadata=_said(
            "--stream-time",
            metavar="[FRAMES]",
            help="The input is a sliding window (axis 1 is time): each call takes FRAMES more of "
            "it, default (0) the fewest, and computes what they change.",
        ),
    )
    pools: Pools = field(
        default=(),
        metadata=_said(
            "--pool",
            help="A memory for the arena, the fastest first, e.g. --pool dtcm=16K --pool "
            "sram=128K.",
            metavar="NAME=BYTES",
            parse=pool_sizes,
            many=True,
        ),
    )
    hot_weights: bool = field(
        default=False,
        metadata=_said(
            "--hot-weights",
            help="Copy constants that are read most to what the first --pool has left.",
        ),
    )
    reserve: tuple[str, ...] = field(
        default=(),
        metadata=_said(
            "--reserve",
            help="A register that no kernel may write, e.g. r9 where a system keeps its data.",
            metavar="REGISTER",
            parse=registers,
            many=True,
        ),
    )
    unroll: bool = field(
        default=False,
        metadata=_said("--unroll", help="Longer kernels, for code in memory without wait states."),
    )
    channels_last: bool = field(
        default=False,
        metadata=_said(
            "--channels-last",
            help="Images go in and come out [H, W, C], where the model would transpose them.",
        ),
    )
    check_memory: bool = field(
        default=False,
        metadata=_said(
            "--check-memory",
            help="Room between buffers, so that runs here poison dead memory after every call and "
            "watch for stray writes; slow, and limits do not count.",
        ),
    )

    def __post_init__(self) -> None:
        if self.optimize not in GOALS:
            raise UsageError(
                "unknown goal",
                where=f"{_flag('optimize').word} {self.optimize!r}",
                hint=f"one of {', '.join(GOALS)}",
            )
        if self.stream_time is not None and self.stream_time < 0:
            raise UsageError(
                f"{self.stream_time} is no number of frames", where=_flag("stream_time").word
            )
        for name in ("max_ram", "max_flash"):
            if (size := getattr(self, name)) is not None and size < 0:
                raise UsageError(f"{size} is no number of bytes", where=_flag(name).word)
            _addressable(size or 0, _flag(name).word)
        _check_streams(self)
        _check_pools(self)

    @property
    def goal(self) -> str:
        """What kernels are chosen for: those of "debug" are those of "speed", built differently."""
        return "speed" if self.optimize == "debug" else self.optimize

    @property
    def hot_room(self) -> int:
        """Bytes of the memory that constants may be copied to."""
        return self.pools[0][1] if self.hot_weights else 0

    def described(self) -> dict[str, bool | int | str | None]:
        """All of it as JSON has it, for metadata and keys."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        pools = " ".join(f"{name}={size}" for name, size in self.pools)
        shapes = " ".join(f"{name}={','.join(map(str, sizes))}" for name, sizes in self.shapes)
        return {**values, "pools": pools, "shapes": shapes, "reserve": " ".join(self.reserve)}


def flags() -> dict[str, Flag]:
    """Every option's flag, by the option's name, in their order."""
    return {f.name: f.metadata["flag"] for f in fields(CompileOptions)}


def _flag(name: str) -> Flag:
    return flags()[name]


def _check_streams(options: CompileOptions) -> None:
    if options.stream_input and options.stream_time is not None:
        raise UsageError(
            "the input is streamed row by row or frame by frame, not both",
            where="--stream-input",
            hint="one of --stream-input and --stream-time",
        )
    if options.check_memory and options.stream_time is not None:
        raise UsageError(
            "rows that stay from push to push are not checked",
            where="--check-memory",
            hint="one of --check-memory and --stream-time",
        )


_POOL_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _check_pools(options: CompileOptions) -> None:
    if not options.pools:
        if options.hot_weights:
            raise UsageError(
                "needs a memory to put them", where="--hot-weights", hint="--pool dtcm=16K"
            )
        return
    names = [name for name, _ in options.pools]
    if len({*names}) < len(names) or not all(map(_POOL_NAME.fullmatch, names)) or "arena" in names:
        raise UsageError(
            f"{', '.join(names)} cannot be their names",
            where="--pool",
            hint="different ones of small letters, digits and underscores, e.g. --pool dtcm=16K",
        )
    if any(size <= 0 for _, size in options.pools):
        raise UsageError("a memory has no bytes", where="--pool", hint="e.g. --pool dtcm=16K")
    if sum(size for _, size in options.pools) > _MOST_TOGETHER:
        raise UsageError(
            "the memories are larger than C can count through",
            where="--pool",
            hint=f"together at most {_MOST_TOGETHER} bytes",
        )
    alone = ("static_arena", "check_memory", "stream_time")
    given = [_flag(n).word for n in alone if getattr(options, n) not in (None, False)]
    if given:
        raise UsageError(f"cannot be used with {given[0]}", where="--pool", hint="leave one out")
