"""The micro-kernel of float layers: a block of pixels x channels whose sums stay in registers.

The FPU has 32 registers. A block of 4 pixels x 4 channels keeps 16 sums, loads eight values for
16 products, and rounds each product and each sum, or fuses the two:

* a Cortex-M4 needs 3 cycles for a VFMA and 1 each for VMUL and VADD if the sum is not made right
  behind its product: products wait in the registers that are left;
* a Cortex-M7 issues one every cycle; the next step's values are loaded among this step's products.

16 multiply-accumulates take 42 cycles on a Cortex-M4 (2.6 each).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from midge.core.types import DType
from midge.kernels.arm import assembler as asm
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest

CPU = "defined(__thumb2__)"
NEEDS = f"defined(__GNUC__) && {CPU} && defined(__ARM_FP)"
REGISTERS = 32
_T = TypeVar("_T")
_PIXELS = ("r4", "r5", "r6", "r7")  # where each pixel is read
_STEPS, _BLOCKS, _AT, _SPARE = "r3", "r8", "r9", "r12"


@dataclass(frozen=True, slots=True)
class Products:
    """y[p, b * channels + c] += sum over k < steps of x[p, k] * w[b, k, c], k ascending.

    pixels, channels: of one block.  blocks: of channels, one after the other.
    skip: elements of w between two blocks.  x_pixel, y_pixel: elements from pixel to pixel.
    fused: a product and its sum are rounded once.  straight: steps that are written out without a
    loop.
    """

    pixels: int
    channels: int
    blocks: int
    steps: int
    skip: int
    x_pixel: int
    y_pixel: int
    fused: bool
    straight: int = 8

    def __post_init__(self) -> None:
        assert 1 <= self.pixels <= len(_PIXELS), "pixels have no register"
        assert self.used <= REGISTERS, "sums do not fit"
        assert self.straight * self.channels <= 128, "offsets do not fit"

    @property
    def used(self) -> int:
        """Registers for sums and one step's values, and for a product that waits."""
        waits = 0 if self.fused or self.pixels == 1 else 1
        return self.pixels * self.channels + self.pixels + self.channels + waits

    @property
    def ahead(self) -> bool:
        """Whether another step's values fit."""
        return self.fused and self.used + self.pixels + self.channels <= REGISTERS

    @property
    def name(self) -> str:
        """Unique: what differs in meaning or spelling differs in name."""
        kind = "fma" if self.fused else "mul"
        strides = f"s{self.skip}_x{self.x_pixel}_y{self.y_pixel}_u{self.straight}"
        block = f"{self.pixels}x{self.channels}x{self.steps}"
        return f"products_{kind}_{block}_n{self.blocks}_{strides}"

    def instruction(self) -> Instruction:
        lines = tuple(_Writer(self).lines())
        return Instruction(self.name, meaning(self), asm=lines, needs=NEEDS, cpu=CPU)


def meaning(m: Products) -> ir.Func:
    """`m` as loops."""
    b, k, p, c = (ir.Var(v) for v in "bkpc")
    x = ir.Load("x", (ir.add(_times(p, m.x_pixel), k),))
    start = _times(b, m.steps * m.channels + m.skip)
    w = ir.Load("w", (ir.total([start, _times(k, m.channels), c]),))
    at = (ir.total([_times(p, m.y_pixel), _times(b, m.channels), c]),)
    total = ir.Bin("+", ir.Load("y", at), ir.Bin("*", x, w))
    extents = (m.blocks, m.steps, m.pixels, m.channels)
    weights = m.blocks * m.steps * m.channels + (m.blocks - 1) * m.skip
    params = (
        ir.Param("w", DType.F32, (weights,), "const"),
        ir.Param("x", DType.F32, ((m.pixels - 1) * m.x_pixel + m.steps,), "in"),
        ir.Param("y", DType.F32, ((m.pixels - 1) * m.y_pixel + m.blocks * m.channels,), "inout"),
    )
    return ir.Func(m.name, params, nest((b, k, p, c), extents, (ir.Store("y", at, total),)))


def _times(e: ir.Expr, n: int) -> ir.Expr:
    return ir.mul(e, ir.i32(n))


class _Writer:
    """The assembler of `Products`: r0 is w, r1 is x, r2 is y."""

    def __init__(self, m: Products) -> None:
        self.m = m
        sums = m.pixels * m.channels
        step = m.pixels + m.channels
        self.sums = [f"s{i}" for i in range(sums)]
        free = [f"s{i}" for i in range(sums, REGISTERS)]
        self.banks = [free[:step], free[step : 2 * step] if m.ahead else free[:step]]
        self.waiting = free[step:]
        self.saved = 2 * step + sums if m.ahead else REGISTERS

    def lines(self) -> list[str]:
        m = self.m
        saved = f"{{s0-s{self.saved - 1}}}"
        out = [f"vpush {saved}"]
        out += [f"mov {_BLOCKS}, #{m.blocks}", "1:"] if m.blocks > 1 else []
        for p, r in enumerate(_PIXELS[: m.pixels]):
            out += asm.add(r, "r1", 4 * p * m.x_pixel, _SPARE)
        out += [*self.rows("vldmia"), *self.steps(), *self.rows("vstmia")]
        if m.blocks > 1:
            out += asm.add("r2", "r2", 4 * m.channels, _SPARE)
            out += [f"subs {_BLOCKS}, #1", "bne 1b"]
        return [*out, f"vpop {saved}"]

    def rows(self, op: str) -> list[str]:
        """Load or store the sums."""
        out = []
        for p, own in enumerate(_batched(self.sums, self.m.channels)):
            out += asm.add(_AT, "r2", 4 * p * self.m.y_pixel, _SPARE)
            last = f"-{own[-1]}" if len(own) > 1 else ""
            out.append(f"{op} {_AT}, {{{own[0]}{last}}}")
        return out

    def steps(self) -> list[str]:
        """All steps; r0 ends at the next block's weights."""
        m = self.m
        turns, left = divmod(m.steps, m.straight)
        if turns <= 1:
            return [*self.some(m.steps), *self.moved(m.steps, m.skip)]
        out = [f"mov {_STEPS}, #{turns}", "2:", *self.some(m.straight)]
        out += [*self.moved(m.straight), *self.moved_pixels(m.straight)]
        out += [f"subs {_STEPS}, #1", "bne 2b", *self.some(left)]
        return out + self.moved(left, m.skip)

    def moved(self, steps: int, skip: int = 0) -> list[str]:
        return asm.add("r0", "r0", 4 * (steps * self.m.channels + skip), _SPARE)

    def moved_pixels(self, steps: int) -> list[str]:
        return [s for r in _PIXELS[: self.m.pixels] for s in asm.add(r, r, 4 * steps, _SPARE)]

    def some(self, count: int) -> list[str]:
        """`count` steps without a loop."""
        out: list[str] = []
        for k in range(count):
            if k == 0 or not self.m.ahead:
                out += self.loads(k)
            following = self.loads(k + 1) if self.m.ahead and k + 1 < count else []
            out += self.fused(k, following) if self.m.fused else self.rounded(k)
        return out

    def values(self, k: int) -> tuple[list[str], list[str]]:
        """Registers of step k: one per channel, one per pixel."""
        bank = self.banks[k % 2]
        return bank[: self.m.channels], bank[self.m.channels :]

    def loads(self, k: int) -> list[str]:
        w, x = self.values(k)
        out = [f"vldr {r}, {asm.at('r0', 4 * (k * len(w) + c))}" for c, r in enumerate(w)]
        return [*out, *(f"vldr {r}, {asm.at(p, 4 * k)}" for p, r in zip(_PIXELS, x, strict=False))]

    def fused(self, k: int, following: list[str]) -> list[str]:
        """A step's products; loads of the next step, which pair with each other but not with
        products, half-way."""
        w, x = self.values(k)
        out = [
            f"vfma.f32 {total}, {a}, {b}"
            for total, (a, b) in zip(self.sums, product(x, w), strict=True)
        ]
        middle = len(out) // 2
        return [*out[:middle], *following, *out[middle:]]

    def rounded(self, k: int) -> list[str]:
        """A step's products, as many as there are registers for, then their sums. The products of
        a single pixel take the place of its weights."""
        out: list[str] = []
        w, x = self.values(k)
        places = w if self.m.pixels == 1 else self.waiting
        tasks = list(zip(self.sums, product(x, w), strict=True))
        for some in _batched(tasks, _even(len(tasks), len(places))):
            pairs = list(zip(places, some, strict=False))
            out += [f"vmul.f32 {place}, {a}, {b}" for place, (_, (a, b)) in pairs]
            out += [f"vadd.f32 {total}, {total}, {place}" for place, (total, _) in pairs]
        return out


def _batched(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _even(count: int, most: int) -> int:
    """How many to take at a time, at most `most`, so that no time is much shorter."""
    times = -(-count // most)
    return -(-count // times)
