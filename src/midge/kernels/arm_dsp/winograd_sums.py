"""The micro-kernel that multiplies tiles in Winograd's form, and takes them back; see `winograd`.

16 multiply-accumulates of a block of 2 channels x 4 tiles take 14 instructions and 16 cycles on a
Cortex-M4, the way back about 50 cycles for the 2 x 2 outputs of a tile and channel.

An output is a sum of nine positions, some of them subtracted. Sums run on from position to
position, so that what an output takes of a run of positions with one sign is a difference of two
running sums: in the order of `POSITIONS` the four outputs take 16 additions instead of 24.
"""

from __future__ import annotations

from dataclasses import dataclass

from midge.core.types import DType
from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp import halves
from midge.kernels.arm_dsp.scaling import Line, Scaling
from midge.kernels.arm_dsp.winograd_tiles import POSITIONS
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest

_COUNT = len(POSITIONS)
# A': what each of two outputs takes of the four positions in its row or column.
_BACK = ((1, 1, 1, 0), (0, 1, -1, -1))
_REGISTERS = (*(f"r{i}" for i in range(2, 13)), "lr")
_MOST_OFFSET = 4095


# Output (0, 0) is running sum 8; (1, 0) in r8 starts with 2 m7 - m6, (0, 1) in r7 with m5 - 2 m4,
# (1, 1) in r5 with m3 + 2 m0; registers hold m0.. from r2 on, then m8.. in r2, r3, r4, r6, r9, lr.
_LEFT = ("rsb r8, r8, r9, lsl #1", "sub r8, r8, r5", "add r8, r8, r3, lsl #1")
_RIGHT = (
    "sub r7, r7, r6, lsl #1", "add r7, r7, r2, lsl #1", "sub r7, r7, r3, lsl #1",
    "add r7, r7, r4, lsl #1", "add r5, r5, r2, lsl #1", "sub r5, r5, r4, lsl #1",
)  # fmt: skip
_LEFT_LAST = "sub r8, r8, r6"
_RIGHT_NEXT = (
    "add r5, r5, r3", "sub r5, r5, r4, lsl #1", "sub r7, r7, r9", "add r7, r7, lr, lsl #1"
)  # fmt: skip
_RIGHT_LAST = ("add r5, r5, r3", "sub r7, r7, r4")


@dataclass(frozen=True, slots=True)
class TileSums:
    """Convolutions of `tiles` tiles with the windows of `blocks` blocks of `channels` channels: for
    each channel c and tile t, behind the v of `Tiles`,

        m[c, p, t] = sum over positions q <= p and s of v[s, q, t] times w[q, s, c], lower and upper
                     halves added

    (the last block's stay there), and the 2 x 2 outputs, a fourth of sums of some of m, at

        y[row * y_row + (2 t + column) * y_pixel + channel * y_channel].

    w is i32, of each block [16, words, channels] and what scales each channel. cut: of the last
    tile only the left column is stored.  scaling: y is i8; None: y is i32, the sums.  straight:
    steps written out at most.
    """

    tiles: int
    words: int
    channels: int
    blocks: int
    y_row: int
    y_pixel: int
    y_channel: int
    scaling: Scaling | None
    cut: bool = False
    straight: int = 32

    def __post_init__(self) -> None:
        assert self.tiles * self.channels <= 8, "accumulators do not fit"

    @property
    def columns(self) -> int:
        """Of outputs."""
        return 2 * self.tiles - self.cut

    @property
    def constants(self) -> int:
        """Words that scale a channel."""
        return self.scaling.words if self.scaling is not None else 0

    @property
    def w_block(self) -> int:
        return self.channels * (_COUNT * self.words + self.constants)

    @property
    def v_span(self) -> int:
        return (self.words + self.channels) * _COUNT * self.tiles

    @property
    def y_span(self) -> int:
        last = (self.blocks * self.channels - 1) * self.y_channel
        return self.y_row + (self.columns - 1) * self.y_pixel + last + 1

    @property
    def name(self) -> str:
        return asm.name_of(f"winograd_sums_{self.channels}x{self.tiles}", self)

    def instruction(self) -> Instruction:
        lines = tuple(_Writer(self).lines())
        return Instruction(self.name, meaning(self), asm=lines, needs=asm.NEEDS, note=repr(self))


def params(k: TileSums) -> tuple[ir.Param, ...]:
    kind = DType.I32 if k.scaling is None else DType.I8
    return (
        ir.Param("w", DType.I32, (k.blocks * k.w_block,), "const"),
        ir.Param("v", DType.I32, (k.v_span,), "inout"),
        ir.Param("y", kind, (k.y_span,), "inout"),
    )


def meaning(k: TileSums) -> ir.Func:
    body = (*_products(k), *_outputs(k))
    return ir.Func(k.name, params(k), nest((ir.Var("b"),), (k.blocks,), body))


def factors(row: int, column: int) -> tuple[int, ...]:
    """How often an output takes each running sum: as often as its position, less the next one."""
    taken = [p.sign * _BACK[row][p.row] * _BACK[column][p.column] for p in POSITIONS]
    return tuple(a - b for a, b in zip(taken, (*taken[1:], 0), strict=True))


def _products(k: TileSums) -> ir.Block:
    """m of one block."""
    b, p, c, t, s = (ir.Var(n) for n in "bpcts")
    step = ir.add(_times(p, k.words), s)
    w = ir.Load("w", (ir.total([_times(b, k.w_block), _times(step, k.channels), c]),))
    v = ir.Load("v", (_place(k, s, p, t),))
    acc: ir.Expr = ir.Load("acc", ())
    for half in (halves.low, halves.high):
        acc = ir.Bin("+", acc, ir.Bin("*", half(w), half(v)))
    position = (
        ir.Loop("s", k.words, (ir.Store("acc", (), acc),)),
        ir.Store("v", (_place(k, ir.add(c, ir.i32(k.words)), p, t),), ir.Load("acc", ())),
    )
    body = (
        ir.Alloc("acc", DType.I32, ()),
        ir.Store("acc", (), ir.i32(0)),
        ir.Loop("p", _COUNT, position),
    )
    return nest((c, t), (k.channels, k.tiles), body)


def _outputs(k: TileSums) -> ir.Block:
    """From m to y, of one block."""
    channel, tile = ir.Var("channel"), ir.Var("tile")
    place = ir.add(channel, ir.i32(k.words))
    body: list[ir.Stmt] = []
    for row in range(2):
        for column in range(2):
            total: ir.Expr = ir.i32(0)
            for p, factor in enumerate(factors(row, column)):
                m = ir.Load("v", (_place(k, place, ir.i32(p), tile),))
                term = ir.mul(m, ir.i32(abs(factor)))
                if factor:
                    total = ir.add(total, term) if factor > 0 else ir.sub(total, term)
            store = _stored(k, row, column, ir.Bin(">>", total, ir.i32(2)))
            if not (k.cut and column):
                body.append(store)
            elif k.tiles > 1:
                body.append(ir.Guard(ir.Bin("<", tile, ir.i32(k.tiles - 1)), (store,)))
    return nest((channel, tile), (k.channels, k.tiles), tuple(body))


def _stored(k: TileSums, row: int, column: int, acc: ir.Expr) -> ir.Store:
    b, channel, tile = ir.Var("b"), ir.Var("channel"), ir.Var("tile")
    number = ir.add(_times(b, k.channels), channel)
    at = ir.total([
        _times(tile, 2 * k.y_pixel),
        _times(number, k.y_channel),
        ir.i32(row * k.y_row + column * k.y_pixel),
    ])  # fmt: skip
    if k.scaling is None:
        return ir.Store("y", (at,), acc)
    first = k.channels * _COUNT * k.words
    start = ir.total([_times(b, k.w_block), _times(channel, k.constants), ir.i32(first)])
    constants = [ir.Load("w", (ir.add(start, ir.i32(i)),)) for i in range(k.constants)]
    return ir.Store("y", (at,), k.scaling.value(acc, constants))


def _place(k: TileSums, s: ir.Expr, position: ir.Expr, t: ir.Expr) -> ir.Expr:
    """Of an element of v or m."""
    return ir.total([_times(s, _COUNT * k.tiles), _times(position, k.tiles), t])


def _times(e: ir.Expr, n: int) -> ir.Expr:
    return ir.mul(e, ir.i32(n))


class _Writer:
    """The assembler of a `TileSums`.

    While it multiplies r0 is w, r1 is v, the other registers are sums and what is multiplied.
    Addresses that wait are on the stack.
    """

    SLOTS = ("v", "y", "positions_end", "run_end", "m_end", "w_end")

    def __init__(self, k: TileSums) -> None:
        self.k = k
        count = k.channels * k.tiles
        self.sums = [_REGISTERS[c * k.tiles : (c + 1) * k.tiles] for c in range(k.channels)]
        self.free = _REGISTERS[count:]
        self.pitch = 4 * _COUNT * k.tiles  # bytes from word to word of v
        self.out: list[str] = []
        self.w_moved = self.v_moved = 0  # how far r0, r1 are from where they are thought to be

    def slot(self, name: str) -> str:
        return asm.at("sp", 4 * self.SLOTS.index(name))

    def lines(self) -> list[str]:
        k = self.k
        frame = 4 * len(self.SLOTS)
        self.out = [f"sub sp, #{frame}", f"str r1, {self.slot('v')}", f"str r2, {self.slot('y')}"]
        self.keep("positions_end", "r1", self.pitch)
        self.keep("m_end", "r1", (k.words + k.channels) * self.pitch)
        if k.blocks > 1:
            self.keep("w_end", "r0", 4 * k.blocks * k.w_block)
            self.out += ["9:", f"ldr r1, {self.slot('v')}"]
        self.out += [f"mov {r}, #0" for sums in self.sums for r in sums]
        self.positions()
        self.finish()
        if k.blocks > 1:
            self.again("r0", "w_end", 9)
        return [*self.out, f"add sp, #{frame}"]

    def keep(self, name: str, register: str, offset: int) -> None:
        """register + offset to a slot."""
        self.out += [*asm.add("r12", register, offset, "r12"), f"str r12, {self.slot(name)}"]

    def again(self, register: str, end: str, label: int) -> None:
        """Back to the label unless the end is reached."""
        self.out += [f"ldr r12, {self.slot(end)}", f"cmp {register}, r12", f"bne {label}b"]

    def positions(self) -> None:
        """m of the block; r0 ends behind its weights, r1 behind the first word of v."""
        k = self.k
        at_once = 1
        while at_once < _COUNT and 2 * at_once * k.words <= k.straight:
            at_once *= 2
        self.out.append("2:")
        for position in range(at_once):
            self.position(4 * k.tiles * position)
        self.move_w()
        self.move_v(4 * k.tiles * at_once)
        self.v_moved = 0
        if at_once < _COUNT:
            self.again("r1", "positions_end", 2)

    def position(self, start: int) -> None:
        """m of one position; r1 stands `v_moved` bytes from the first of those done at once."""
        k = self.k
        done = 0
        if k.words > k.straight:
            self.move_v(start)
            self.move_w()
            done = k.words // k.straight * k.straight
            self.keep("run_end", "r1", done * self.pitch)
            self.out.append("1:")
            for s in range(k.straight):
                self.step(start + s * self.pitch)
            self.move_v(start + k.straight * self.pitch)
            self.move_w()
            self.again("r1", "run_end", 1)
            self.v_moved = start + done * self.pitch
        for s in range(done, k.words):
            self.step(start + s * self.pitch)
        for c, sums in enumerate(self.sums):
            for t, r in enumerate(sums):
                at = start + (k.words + c) * self.pitch + 4 * t
                self.out.append(f"str {r}, {self.v(at)}")

    def step(self, at: int) -> None:
        """A word of each tile, `at` bytes into v, times one of each channel. What there are fewer
        of stays in registers, the others come as there is room."""
        k = self.k
        ws = [asm.at("r0", self.w_moved + 4 * c) for c in range(k.channels)]
        vs = [self.v(at + 4 * t, ahead=4 * (k.tiles - t)) for t in range(k.tiles)]
        self.w_moved += 4 * k.channels
        turned = k.channels > k.tiles
        held, others = (vs, ws) if turned else (ws, vs)
        loaded, room = self.free[: len(held)], self.free[len(held) :]
        self.out += [f"ldr {r}, {place}" for r, place in zip(loaded, held, strict=True)]
        for start in range(0, len(others), len(room)):
            some = list(zip(room, others[start:], strict=False))
            self.out += [f"ldr {r}, {place}" for r, place in some]
            for n, (r, _) in enumerate(some, start):
                for i, h in enumerate(loaded):
                    total = self.sums[n][i] if turned else self.sums[i][n]
                    self.out.append(f"smlad {total}, {r}, {h}, {total}")

    def v(self, offset: int, ahead: int = 0) -> str:
        """The element `offset` bytes from where r1 is thought to be; `ahead` bytes from there are
        to be reached as well."""
        if not 0 <= offset - self.v_moved <= _MOST_OFFSET - ahead:
            self.move_v(offset)
        return asm.at("r1", offset - self.v_moved)

    def move_v(self, offset: int) -> None:
        self.out += asm.add("r1", "r1", offset - self.v_moved, "r12")
        self.v_moved = offset

    def move_w(self) -> None:
        self.out += asm.add("r0", "r0", self.w_moved, "r12")
        self.w_moved = 0

    def finish(self) -> None:
        """From m to y: r1 walks over m, r12 over y, r0 over what scales the channels."""
        k = self.k
        size = 4 if k.scaling is None else 1
        self.out += asm.add("r1", "r1", (k.words - 1) * self.pitch, "r12")
        self.out += [f"ldr r12, {self.slot('y')}", "3:"]
        if isinstance(k.scaling, Line):
            self.out.append("ldm r0!, {r10, r11}")
        looped = k.tiles - k.cut if k.straight < 32 else 0
        if looped > 1:
            self.out += [f"add lr, r1, #{4 * looped}", f"str lr, {self.slot('run_end')}", "4:"]
            self.tile(0, 0, cut=False)
            self.out.append("add r1, #4")
            self.out += asm.add("r12", "r12", size * 2 * k.y_pixel, "lr")
            self.out += [f"ldr lr, {self.slot('run_end')}", "cmp r1, lr", "bne 4b"]
        else:
            looped = 0
        for t in range(looped, k.tiles):
            self.tile(
                4 * (t - looped), size * 2 * k.y_pixel * (t - looped), k.cut and t == k.tiles - 1
            )
        if k.scaling is not None and not isinstance(k.scaling, Line):
            self.out.append(f"add r0, #{4 * k.constants}")
        self.out += asm.add("r1", "r1", self.pitch - 4 * looped, "lr")
        step = k.y_channel - 2 * k.y_pixel * looped
        self.out += asm.add("r12", "r12", size * step, "lr")
        if k.channels > 1:
            self.out += [f"ldr lr, {self.slot('m_end')}", "cmp r1, lr", "bne 3b"]
        if k.blocks > 1:
            self.out.append(f"str r12, {self.slot('y')}")

    def tile(self, at: int, y: int, cut: bool) -> None:
        """The outputs of a channel and tile: m `at` bytes from r1, y bytes from r12. The operations
        are those that `factors` asks for, as far as possible where sums are."""

        def load(registers: str, *positions: int) -> None:
            for r, p in zip(registers.split(), positions, strict=True):
                self.out.append(f"ldr {r}, {asm.at('r1', at + 4 * self.k.tiles * p)}")

        if cut:
            load("r3 r5 r8 r9 r2 r6", 1, 3, 6, 7, 8, 11)
            self.out += [*_LEFT, _LEFT_LAST]
        else:
            load("r2 r3 r4 r5 r6 r7 r8 r9", *range(8))
            self.out += [*_LEFT, *_RIGHT]
            load("r2 r3 r4 r6 r9 lr", *range(8, 14))
            self.out += [_LEFT_LAST, *_RIGHT_NEXT]
            load("r3 r4", 14, 15)
            self.out += _RIGHT_LAST
        places = [("r2", 0, 0), ("r8", 1, 0), ("r7", 0, 1), ("r5", 1, 1)][: 2 if cut else 4]
        self.scale([r for r, _, _ in places])
        op, size = ("str", 4) if self.k.scaling is None else ("strb", 1)
        for r, row, column in places:
            place = y + size * (row * self.k.y_row + column * self.k.y_pixel)
            self.out += asm.store(op, r, "r12", place, "lr")

    def scale(self, sums: list[str]) -> None:
        scaling = self.k.scaling
        if scaling is None:
            self.out += [f"asr {r}, {r}, #2" for r in sums]
        elif isinstance(scaling, Line):
            self.out += scaling.apply(sums, 2, ("r10", "r11"))
        else:
            self.out += scaling.lines(sums, 2, "r0", ("r10", "r11"))
            self.out.append(f"sub r0, #{4 * scaling.words}")
