"""Every intrinsic: its meaning in Python == its C in the runtime, over edges and random values."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest

from midge.core import angles, reals
from midge.core.types import Array, DType
from midge.loop.intrinsics import INTRINSICS
from midge.runtime import header
from midge.toolchain import build_library

I32_MIN, I32_MAX = -(2**31), 2**31 - 1
EDGES = sorted(
    {s * (1 << e) + d for e in range(32) for s in (-1, 1) for d in (-1, 0, 1)} | {0, 3, -3}
)
I32_EDGES = [v for v in EDGES if I32_MIN <= v <= I32_MAX]
COUNT = 20_000


@dataclass(frozen=True)
class Domain:
    """Where an intrinsic is defined, argument by argument: edges, least and greatest value.
    `but` excludes combinations."""

    edges: tuple[list[int], ...]
    limits: tuple[tuple[int, int], ...]
    but: Callable[..., bool] = lambda *_: False

    def cases(self, seed: int) -> list[tuple[int, ...]]:
        """Combinations of edges, and random values of all magnitudes."""
        rng = np.random.default_rng(seed)
        corners = list(product(*self.edges))
        chosen = rng.permutation(len(corners))[:COUNT]
        columns = [_spread(rng, low, high) for low, high in self.limits]
        made = [corners[i] for i in chosen] + list(zip(*columns, strict=True))
        return [args for args in made if not self.but(*args)]


def _spread(rng: np.random.Generator, low: int, high: int) -> list[int]:
    """Half of them uniform, half uniform in their number of bits."""
    uniform = rng.integers(low, high, COUNT // 2, np.int64, endpoint=True)
    bits = rng.integers(0, 64, COUNT // 2)
    small = rng.integers(-(2**62), 2**62, COUNT // 2) >> bits
    values = np.concatenate([uniform, np.clip(small, low, high)])
    rng.shuffle(values)
    return [int(v) for v in values]


I32 = (I32_MIN, I32_MAX)
MULTIPLIERS = [0, 1, 1 << 30, (1 << 30) + 1, 1518500250, I32_MAX - 1, I32_MAX]
WIDE = sorted({s * (1 << e) + d for e in range(47) for s in (-1, 1) for d in (-1, 0, 1)})
HALVES = (0, 1, -1, 127, -128, 255, -256, 32767, -32768)
WORD_EDGES = [(high << 16) | (low & 0xFFFF) for high in HALVES for low in HALVES]
I64 = (-(2**63), 2**63 - 1)
I64_EDGES = sorted({*I64, *(v for v in EDGES), *(s * (1 << e) for e in (40, 62) for s in (-1, 1))})
DIVISIONS = ("div", "rem", "mod", "shift_left", "shift_right")
SUMS = ("smlad", "smlabb", "smlabt", "smlatb", "smlatt")
INTEGER = {
    "high_mul": Domain((I32_EDGES, I32_EDGES), (I32, I32), lambda a, b: a == b == I32_MIN),
    "round_shift": Domain((I32_EDGES, list(range(32))), (I32, (0, 31))),
    "requantize_twice": Domain(
        (I32_EDGES, MULTIPLIERS, list(range(-31, 31))), (I32, (0, I32_MAX), (-31, 30))
    ),
    "requantize_once": Domain(
        (I32_EDGES, MULTIPLIERS, list(range(-31, 31))), (I32, (0, I32_MAX), (-31, 30))
    ),
    "requantize_wide": Domain(
        (WIDE, [0, 1, 16384, 32767], list(range(-31, 8))),
        ((-(2**47) + 1, 2**47 - 1), (0, 32767), (-31, 7)),
    ),
    "requantize_real": Domain(
        (WIDE, [0, 1 << 25, 2**26 - 1], [0, 1, 2**27 - 1], [1, 2, 30, 52, 53, 64, 84, 117, 120]),
        ((-(2**53) + 1, 2**53 - 1), (0, 2**26 - 1), (0, 2**27 - 1), (1, 120)),
    ),
    "high_word": Domain(
        (I32_EDGES, list(range(32)), I32_EDGES),
        (I32, (0, 8), I32),
        lambda x, left, factor: not I32_MIN <= x << left <= I32_MAX,
    ),
    "half_value": Domain(([*range(1 << 16), -1, -32768],), ((-32768, 65535),)),
    "nudged": Domain(
        (I32_EDGES, I32_EDGES[1:]),
        (I32, (I32_MIN + 1, I32_MAX)),
        lambda x, nudge: x < 0 and not I32_MIN <= x + nudge <= I32_MAX,
    ),
    **{n: Domain((WORD_EDGES, WORD_EDGES, [0, 1, -1]), (I32, I32, I32)) for n in SUMS},
    **{n: Domain((WORD_EDGES, WORD_EDGES), (I32, I32)) for n in ("pkhbt", "pkhtb")},
    **{n: Domain((I32_EDGES, I32_EDGES), (I32, I32)) for n in ("smmul", "smmulr")},
    **{n: Domain((WORD_EDGES,), (I32,)) for n in ("sxtb16", "sxtb16_ror8", "ssat8", "ssat16")},
    "smlald": Domain((WIDE, WORD_EDGES, [-(1 << 31), 1]), ((-(2**63), 2**63 - 1), I32, I32)),
    "leading_zeros": Domain(([v for v in I32_EDGES if v > 0],), ((1, I32_MAX),)),
    "reciprocal": Domain(([v for v in I32_EDGES if v > 0],), ((1, I32_MAX),)),
    **{f"{n}_i32": Domain((I32_EDGES, I32_EDGES), (I32, I32)) for n in DIVISIONS},
    **{f"{n}_i64": Domain((I64_EDGES, I64_EDGES), (I64, I64)) for n in DIVISIONS},
    "pow_i32": Domain((I32_EDGES, list(range(-3, 70))), (I32, (-2, 40))),
    "pow_i64": Domain((I64_EDGES, list(range(-3, 70))), (I64, (-2, 40))),
    "log_q12": Domain(([v for v in I32_EDGES if v >= 1 << 19],), ((1 << 19, I32_MAX),)),
    "wrap_i8": Domain((I32_EDGES,), (I32,)),
    "wrap_i16": Domain((I32_EDGES,), (I32,)),
    "wrap_i32": Domain((I64_EDGES,), (I64,)),
}
# Units in the last place that midge_float.h promises, and the function in double precision.
FLOAT: dict[str, tuple[float, Callable[[Array], Array]]] = {
    "exp": (2.0, np.exp),
    "tanh": (3.0, np.tanh),
    "logistic": (4.0, lambda x: 1.0 / (1.0 + np.exp(-x))),
    "log": (1.0, np.log),
    "log1p": (3.0, np.log1p),
    "expm1": (2.0, np.expm1),
    "erf": (2.0, np.vectorize(math.erf, otypes=[np.float64])),
    "sinh": (3.0, np.sinh),
    "cosh": (3.0, np.cosh),
    "asinh": (4.0, np.arcsinh),
    "acosh": (4.0, np.arccosh),
    "atanh": (4.0, np.arctanh),
    "sin": (3.0, np.sin),
    "cos": (3.0, np.cos),
    "tan": (5.0, np.tan),
    "asin": (4.0, np.arcsin),
    "acos": (3.0, np.arccos),
    "atan": (3.0, np.arctan),
}
# Those that give the value that is nearest to the exact one, or the exact one.
EXACT: dict[str, Callable[[Array], Array]] = {
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
}
OF_TWO = {"pow": np.power, "fmod": np.fmod}
TO_INTEGERS = {"trunc_i32", "trunc_i64", "bits_of"}


@pytest.fixture(scope="module")
def call() -> Callable[..., Array]:
    """`call(name, columns)`: the C of an intrinsic on arrays."""
    names = list(INTRINSICS)
    headers = sorted({INTRINSICS[n].header for n in names})
    source = "#include <stddef.h>\n" + "".join(f'#include "{h}"\n' for h in headers)
    for name in names:
        i = INTRINSICS[name]
        ins = "".join(f", const {d.c_name} *a{k}" for k, d in enumerate(i.args))
        values = ", ".join(f"a{k}[i]" for k in range(len(i.args)))
        head = f"void all_{name}(size_t n{ins}, {i.result.c_name} *y)"
        loop = f"for (size_t i = 0U; i < n; ++i) {{ y[i] = midge_{name}({values}); }}"
        source += f"{head};\n{head} {{ {loop} }}\n"
    files = {h: header(h) for h in (*headers, "midge_compiler.h")} | {"all.c": source}
    library = ctypes.CDLL(str(build_library("all", files, ["all.c"], warnings_as_errors=True)))

    def run(name: str, *columns: Any) -> Array:
        i = INTRINSICS[name]
        arrays = [np.ascontiguousarray(c, d.numpy) for c, d in zip(columns, i.args, strict=True)]
        y = np.zeros(len(arrays[0]), i.result.numpy)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, y)]
        library[f"all_{name}"](ctypes.c_size_t(len(y)), *pointers)
        return y

    return run


def test_every_intrinsic_is_held_against_its_c() -> None:
    checked = {
        "float_of",
        *INTEGER,
        *FLOAT,
        *EXACT,
        *OF_TWO,
        *TO_INTEGERS,
        "round_to_int",
        "round_even",
    }
    assert set(INTRINSICS) == checked


@pytest.mark.parametrize("name", INTEGER)
def test_integer_intrinsics_agree_exactly(name: str, call: Callable[..., Array]) -> None:
    cases = INTEGER[name].cases(seed=len(name))
    want = [INTRINSICS[name].meaning(*args) for args in cases]
    have = call(name, *zip(*cases, strict=True)).tolist()
    bad = [(a, w, h) for a, w, h in zip(cases, want, have, strict=True) if w != h]
    assert not bad, f"{len(bad)} of {len(cases)}: {name}{bad[0][0]} is {bad[0][1]}, C: {bad[0][2]}"


def test_requantize_real_rounds_products_next_to_a_half_as_binary64_does(
    call: Callable[..., Array],
) -> None:
    """Factors whose product is so near to k + 1/2 that its own rounding decides."""
    rng = np.random.default_rng(2)
    cases = []
    for _ in range(20_000):
        x = int(rng.integers(1, 2**53, dtype=np.int64) >> rng.integers(0, 50)) | 1
        half = 2 * int(rng.integers(0, 2**30, dtype=np.int64) >> rng.integers(0, 30)) + 1
        shift = 53 + x.bit_length() - half.bit_length()
        real = min(((half << shift) // x >> 1) + int(rng.integers(-1, 3)), 2**53 - 1)
        if real >= 2**52 and 1 <= shift <= 120:
            cases.append((x * int(rng.choice([-1, 1])), real >> 27, real & (2**27 - 1), shift))
    assert len(cases) > 8000
    want = [INTRINSICS["requantize_real"].meaning(*args) for args in cases]
    exact = [_round_exactly(*args) for args in cases]
    assert sum(w != e for w, e in zip(want, exact, strict=True)) > 100, "no hard case among them"
    assert call("requantize_real", *zip(*cases, strict=True)).tolist() == want


def _round_exactly(x: int, high: int, low: int, shift: int) -> int:
    """As requantize_real, but the product is not rounded."""
    product = abs(x) * ((high << 27) + low)
    rounded = min((product + (1 << (shift - 1))) >> shift, 1 << 30)
    return -rounded if x < 0 else rounded


def floats() -> Array:
    """A dense sweep of where the functions change, all exponents, and their edges."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 400_000, np.uint64).astype(np.uint32).view(np.float32)
    dense = np.linspace(-110, 95, 600_001, dtype=np.float32)
    near = np.linspace(-2, 2, 400_001, dtype=np.float32)
    edges = np.array([0.0, -0.0, 88.8, 88.72284, 88.7, -104.0, -103.97, -87.33655, 0.625, 9.011],
                     np.float32)  # fmt: skip
    around = np.concatenate([np.nextafter(edges, np.float32(s)) for s in (-np.inf, np.inf)])
    quarters = np.arange(-3000, 3000, dtype=np.float32) * np.float32(math.pi / 4)
    wide = np.linspace(-1100, 1100, 200_001, dtype=np.float32)
    every = np.concatenate([bits, dense, near, edges, around, -edges, quarters, wide])
    return every[np.isfinite(every)]


@pytest.mark.parametrize("name", FLOAT)
def test_float_intrinsics_keep_the_ulp_their_header_promises(
    name: str, call: Callable[..., Array]
) -> None:
    bound, function = FLOAT[name]
    assert f"{name} below {bound:g} ulp" in header(INTRINSICS[name].header)
    x = floats()
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64))
        rounded = exact.astype(np.float32)
        have = call(name, x)
        undefined = np.isnan(rounded)
        assert (np.isnan(have) == undefined).all()
        x, exact, rounded, have = (a[~undefined] for a in (x, exact, rounded, have))
        infinite = np.isinf(rounded) | np.isinf(have)
        assert (have[infinite] == rounded[infinite]).all()
        unit = np.spacing(np.abs(rounded)).astype(np.float64)
        error = np.where(infinite, 0.0, np.abs(have.astype(np.float64) - exact) / unit)
    worst = int(error.argmax())
    assert error[worst] < bound, (
        f"{name}({x[worst]!r}) = {have[worst]!r}, off by {error[worst]} ulp"
    )


@pytest.mark.parametrize("name", [*FLOAT, *EXACT])
def test_the_meaning_of_a_float_intrinsic_is_its_c_to_the_bit(
    name: str, call: Callable[..., Array]
) -> None:
    special = np.array([math.nan, math.inf, -math.inf, 1e-45, -1e-45, 3.4e38], np.float32)
    x = np.concatenate([floats(), special])
    function = getattr(angles if INTRINSICS[name].header == "midge_angle.h" else reals, name)
    same_bits(function(x), call(name, x))
    few = x[::2000]
    with np.errstate(all="ignore"):
        same_bits(np.array([INTRINSICS[name].meaning(float(v)) for v in few], "f4"), function(few))


@pytest.mark.parametrize("name", OF_TWO)
def test_the_meaning_of_a_function_of_two_is_its_c_to_the_bit(
    name: str, call: Callable[..., Array]
) -> None:
    a, b = pairs()
    same_bits({"pow": reals.pow_, "fmod": reals.fmod}[name](a, b), call(name, a, b))


def same_bits(have: Array, want: Array) -> None:
    """Equal with their signs of zero; any NaN is like any other."""
    np.testing.assert_array_equal(have, want)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(have[number]), np.signbit(want[number]))


def test_special_floats(call: Callable[..., Array]) -> None:
    special = np.array([math.nan, math.inf, -math.inf, 0.0], np.float32)
    for name, want in {
        "exp": [math.nan, math.inf, 0.0, 1.0],
        "tanh": [math.nan, 1.0, -1.0, 0.0],
        "logistic": [math.nan, 1.0, 0.0, 0.5],
        "log": [math.nan, math.inf, math.nan, -math.inf],
        "log1p": [math.nan, math.inf, math.nan, 0.0],
        "expm1": [math.nan, math.inf, -1.0, 0.0],
        "sqrt": [math.nan, math.inf, math.nan, 0.0],
        "erf": [math.nan, 1.0, -1.0, 0.0],
        "sin": [math.nan, math.nan, math.nan, 0.0],
        "cos": [math.nan, math.nan, math.nan, 1.0],
        "tan": [math.nan, math.nan, math.nan, 0.0],
        "asin": [math.nan, math.nan, math.nan, 0.0],
        "acos": [math.nan, math.nan, math.nan, math.pi / 2],
        "atan": [math.nan, math.pi / 2, -math.pi / 2, 0.0],
        "sinh": [math.nan, math.inf, -math.inf, 0.0],
        "cosh": [math.nan, math.inf, math.inf, 1.0],
        "asinh": [math.nan, math.inf, -math.inf, 0.0],
        "acosh": [math.nan, math.inf, math.nan, math.nan],
        "atanh": [math.nan, math.nan, math.nan, 0.0],
        "floor": [math.nan, math.inf, -math.inf, 0.0],
        "rint": [math.nan, math.inf, -math.inf, 0.0],
    }.items():
        np.testing.assert_array_equal(call(name, special), np.array(want, np.float32))


@pytest.mark.parametrize("name", EXACT)
def test_exact_float_intrinsics(name: str, call: Callable[..., Array]) -> None:
    """Every exponent, ties, subnormals, and the neighbours of squares."""
    rng = np.random.default_rng(3)
    roots = rng.integers(1 << 11, 1 << 12, 20_000).astype(np.float32)
    near = [np.nextafter(roots * roots, np.float32(s)) for s in (0, 9e9)]
    tiny = rng.integers(0, 1 << 23, 20_000).astype(np.uint32).view(np.float32)
    x = np.concatenate([floats(), roots * roots, *near, tiny, np.arange(-99, 99) / 2]).astype("f4")
    with np.errstate(all="ignore"):
        want = EXACT[name](x)
    np.testing.assert_array_equal(call(name, x), want)


def pairs() -> tuple[Array, Array]:
    """Special values with each other, and random ones of all magnitudes."""
    rng = np.random.default_rng(4)
    special = [0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -2.5, math.inf, -math.inf, math.nan, 1e30,
               -1e30, 1e-40, 2**24 - 1, 2**23 + 1]  # fmt: skip
    a, b = (v.ravel() for v in np.meshgrid(np.float32(special), np.float32(special)))
    bits = rng.integers(0, 2**32, (2, 50_000), np.uint64).astype(np.uint32).view(np.float32)
    x = [a, bits[0], rng.uniform(0, 10, 100_000), rng.normal(1, 1e-3, 50_000), -np.arange(99.0)]
    y = [b, bits[1], rng.uniform(-40, 40, 100_000), rng.uniform(-1e5, 1e5, 50_000), np.arange(99.0)]
    with np.errstate(invalid="ignore"):  # signalling NaNs among the random bits
        return np.concatenate(x).astype(np.float32), np.concatenate(y).astype(np.float32)


@pytest.mark.parametrize("name", OF_TWO)
def test_functions_of_two_floats(name: str, call: Callable[..., Array]) -> None:
    """fmod is exact; pow within what its header promises, with C's special cases."""
    a, b = pairs()
    have = call(name, a, b)
    with np.errstate(all="ignore"):
        exact = OF_TWO[name](a.astype(np.float64), b.astype(np.float64))
        want = exact.astype(np.float32)
    if name == "fmod":
        np.testing.assert_array_equal(have, want)
        return
    assert "pow below 2 ulp" in header("midge_math.h")
    plain = np.isfinite(want)
    np.testing.assert_array_equal(have[~plain], want[~plain])
    np.testing.assert_array_equal(np.signbit(have[plain]), np.signbit(want[plain]))
    unit = np.spacing(np.abs(want[plain])).astype(np.float64)
    assert (np.abs(have[plain].astype(np.float64) - exact[plain]) / unit).max() < 2


@pytest.mark.parametrize("name", sorted(TO_INTEGERS))
def test_truncation_to_integers(name: str, call: Callable[..., Array]) -> None:
    powers = np.array([s * 2.0**e for e in range(-5, 70) for s in (-1, 1)], np.float32)
    special = np.float32([math.inf, -math.inf, 0.0, -0.9])
    if name != "bits_of":  # of which there are many
        special = np.append(special, np.float32(math.nan))
    x = np.concatenate([powers, np.nextafter(powers, np.float32(0)), floats()[::500], special])
    want = [INTRINSICS[name].meaning(float(v)) for v in x.astype(np.float32)]
    assert call(name, x).tolist() == want


def test_bits_as_floats(call: Callable[..., Array]) -> None:
    bits = floats()[::50].view(np.int32)
    want = [INTRINSICS["float_of"].meaning(int(v)) for v in bits]
    assert call("float_of", bits).tolist() == want


@pytest.mark.parametrize("name", ["round_to_int", "round_even"])
def test_rounding_agrees_everywhere(name: str, call: Callable[..., Array]) -> None:
    halves = np.arange(-40, 41, dtype=np.float32) / 2
    powers = np.array([s * 2.0**e for e in range(-30, 40) for s in (-1, 1)], np.float32)
    x = np.concatenate([
        halves, powers, np.nextafter(halves, np.float32(9e9)), np.nextafter(powers, np.float32(0)),
        floats()[::50], [math.nan, math.inf, -math.inf],
    ]).astype(np.float32)  # fmt: skip
    want = [INTRINSICS[name].meaning(float(v)) for v in x]
    assert call(name, x).tolist() == want


def test_ops_on_two_values_have_c_of_every_type() -> None:
    text = header("midge_minmax.h")
    for op, dtype in product(("min", "max"), (DType.I32, DType.I64, DType.F32)):
        assert f"midge_{op}_{dtype.value}(" in text
