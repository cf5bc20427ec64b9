"""The words of the DSP extension and packed loads: C on emulated cores == meaning."""

from __future__ import annotations

import numpy as np
import pytest
from instruction_checks import Bench

from midge.core.types import Array, DType
from midge.kernels.arm_dsp.loads import LOAD_BYTES, LOAD_HALVES
from midge.loop import ir
from midge.loop.evaluate import evaluate
from midge.loop.instruction import Instruction
from midge.loop.intrinsics import INTRINSICS
from midge.loop.program import Kernel
from midge.run import RUNNERS
from midge.target import load_target
from midge.tune import measure
from midge.tune.trials import Match, Trial

WORDS = [n for n in INTRINSICS if INTRINSICS[n].header == "midge_dsp.h"]
HALVES = (0, 1, -1, 255, -256, 32767, -32768, 12345, -12345)
EDGES = [(h << 16) | (lo & 0xFFFF) for h in HALVES for lo in HALVES]
COUNT = 3 * len(EDGES)
TARGETS = pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])


def over_arrays(name: str) -> Kernel:
    word = INTRINSICS[name]
    i = ir.Var("i")
    names = [f"a{k}" for k in range(len(word.args))]
    params = [ir.Param(n, d, (COUNT,), "in") for n, d in zip(names, word.args, strict=True)]
    params.append(ir.Param("y", word.result, (COUNT,), "out"))
    call = ir.Call(name, tuple(ir.Load(n, (i,)) for n in names))
    loop = ir.Loop("i", COUNT, (ir.Store("y", (i,), call),))
    func = ir.Func(f"all_{name}", tuple(params), (loop,))
    return Kernel(func, func)


def values(dtype: DType, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    edges = rng.permutation(np.array(EDGES, np.int64))
    free = rng.integers(dtype.min, dtype.max, COUNT - len(edges), np.int64, endpoint=True)
    return np.concatenate([edges, free]).astype(dtype.numpy)


@TARGETS
def test_words(target: str) -> None:
    bench = Bench([over_arrays(n) for n in WORDS], target)
    for name in WORDS:
        args = INTRINSICS[name].args
        memory = {f"a{k}": values(d, k) for k, d in enumerate(args)}
        memory["y"] = np.zeros(COUNT, INTRINSICS[name].result.numpy)
        bench.check(f"all_{name}", memory)


@pytest.mark.parametrize("load", [LOAD_BYTES, LOAD_HALVES], ids=lambda i: i.name)
@TARGETS
def test_packed_loads(load: Instruction, target: str) -> None:
    """At every alignment that the elements have."""
    x, _ = load.meaning.params
    params = (
        ir.Param("x", x.dtype, (32 + x.elements,), "in"),
        ir.Param("word", DType.I32, (32,), "out"),
    )
    use = ir.Instr(load.name, (("x", (ir.Var("i"),)), ("word", (ir.Var("i"),))))
    func = ir.Func("loads", params, (ir.Loop("i", 32, (use,)),))
    rng = np.random.default_rng(0)
    data = rng.integers(x.dtype.min, x.dtype.max, 32 + x.elements, endpoint=True)
    data[:4] = (x.dtype.min, x.dtype.max, -1, x.dtype.min)
    data = data.astype(x.dtype.numpy)
    want = np.array([data[i : i + x.elements].copy().view(np.int32)[0] for i in range(32)])
    memory = {"x": data, "word": np.zeros(32, np.int32)}
    evaluate(func, memory, {load.name: load.meaning})
    np.testing.assert_array_equal(memory["word"], want)
    trial = Trial(Kernel(func, func, (), {load.name: load}), {}, ("x", "word"))
    trials = measure.Bench([Match((), trial)])
    session = RUNNERS["emulator"].load(trials.package(load_target(target), "speed"))
    run = session.run({f"in0_{x.dtype.value}": data})
    session.close()
    (found,) = run.outputs.values()
    np.testing.assert_array_equal(found, want)
