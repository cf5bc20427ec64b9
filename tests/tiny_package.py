"""A hand-written package in the form that codegen makes: three operators, two of one kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from midge.core.package import Operator, Package, Tensor
from midge.core.target import Target
from midge.core.types import DType, TensorType
from midge.target import load_target

LENGTH = 24
WEIGHTS = tuple((7 * i) % 11 - 5 for i in range(LENGTH))

HEADER = """\
#ifndef TINY_H
#define TINY_H
#include <stddef.h>
#include <stdint.h>
typedef enum midge_status { MIDGE_OK = 0, MIDGE_ERR_ARG, MIDGE_ERR_SPACE } midge_status;
typedef struct tiny_context { uint8_t *arena; uint32_t runs; } tiny_context;
midge_status tiny_init(tiny_context *ctx, void *arena, size_t arena_size);
midge_status tiny_run(tiny_context *ctx);
#ifdef MIDGE_HOOKS
void tiny_after_operator(tiny_context *ctx, uint32_t index);
#define TINY_AFTER(index) tiny_after_operator(ctx, (index))
#else
#define TINY_AFTER(index) ((void)0)
#endif
extern const int8_t tiny_weights[24];
#endif
"""

SOURCE = """\
#include "tiny.h"
#include <string.h>
#define NOINLINE static __attribute__((noinline))

/* y = 2 x + 1, saturated; a negative number of repetitions never happens. */
NOINLINE void tiny_scale(int8_t *y, const int8_t *x)
{
    for (uint32_t i = 0U; i < 24U; i++) {
        int32_t v = 2 * (int32_t)x[i] + 1;
        v = (v > 127) ? 127 : v;
        y[i] = (int8_t)((v < -128) ? -128 : v);
    }
}

NOINLINE void tiny_dot(int32_t *y, const int8_t *x)
{
    int32_t sum = 0;
    for (uint32_t i = 0U; i < 24U; i++) {
        sum += (int32_t)x[i] * (int32_t)tiny_weights[i];
    }
    memcpy(y, &sum, sizeof(sum));
}

midge_status tiny_init(tiny_context *ctx, void *arena, size_t arena_size)
{
    if (arena_size < 80U) {
        return MIDGE_ERR_SPACE;
    }
    ctx->arena = arena;
    ctx->runs = 0U;
    return MIDGE_OK;
}

midge_status tiny_run(tiny_context *ctx)
{
    uint8_t *const arena = ctx->arena;
    @BEFORE@
    tiny_scale((int8_t *)arena + 24, (const int8_t *)arena);
    TINY_AFTER(0U);
    tiny_scale((int8_t *)arena, (const int8_t *)arena + 24);
    TINY_AFTER(1U);
    tiny_dot((int32_t *)(void *)(arena + 48), (const int8_t *)arena);
    TINY_AFTER(2U);
    @AFTER@
    ctx->runs++;
    return MIDGE_OK;
}
"""

TABLE = """\
#include "tiny.h"
const int8_t tiny_weights[24] = {@WEIGHTS@};
"""

BYTES = TensorType((2, 12), DType.I8)
INPUT = Tensor("x", BYTES, 0)
MIDDLE = Tensor("middle", BYTES, 24)
SCALED = Tensor("scaled", BYTES, 0)
OUTPUT = Tensor("y", TensorType((1,), DType.I32), 48)


def _operator(name: str, kernel: str, output: Tensor) -> Operator:
    return Operator(name, kernel, (kernel.upper(),), f"tiny#{name}", LENGTH, (output,))


OPERATORS = (
    _operator("scale_0", "tiny_scale", MIDDLE),
    _operator("scale_1", "tiny_scale", SCALED),
    _operator("dot_0", "tiny_dot", OUTPUT),
)


def tiny_package(
    target: str | Target = "host", *, before: str = "", after: str = "", prelude: str = ""
) -> Package:
    """The package; `before` and `after` are C statements at the start and end of its run,
    `prelude` is C in front of its functions."""
    source = SOURCE.replace("@BEFORE@", before).replace("@AFTER@", after)
    source = source.replace("#define NOINLINE", f"{prelude}\n#define NOINLINE")
    return Package(
        name="tiny",
        target=load_target(target) if isinstance(target, str) else target,
        files={
            "tiny.h": HEADER,
            "tiny.c": source,
            "tiny_weights.c": TABLE.replace("@WEIGHTS@", ", ".join(map(str, WEIGHTS))),
        },
        sources=("tiny.c", "tiny_weights.c"),
        inputs=(INPUT,),
        outputs=(OUTPUT,),
        operators=OPERATORS,
        arena_size=80,
        weights_size=LENGTH,
    )


def with_operators(package: Package, operators: tuple[Operator, ...]) -> Package:
    """The same C under another description."""
    return replace(package, operators=operators)


def some_input(seed: int = 0) -> NDArray[np.int8]:
    """A reproducible input that saturates here and there."""
    generator = np.random.default_rng(seed)
    return generator.integers(-128, 128, BYTES.shape, dtype=np.int8)


def expected(x: NDArray[np.int8]) -> dict[str, NDArray[np.generic]]:
    """What each tensor must hold after its operator, in plain NumPy."""
    middle = _scale(x)
    scaled = _scale(middle)
    y = np.array([int(scaled.ravel().astype(np.int32) @ np.array(WEIGHTS))], np.int32)
    return {"middle": middle, "scaled": scaled, "y": y}


def _scale(x: NDArray[np.int8]) -> NDArray[np.int8]:
    return np.clip(2 * x.astype(np.int32) + 1, -128, 127).astype(np.int8)
