"""The passes in their order: from the graph as read to the plain graph that is lowered."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import TensorType
from midge.graph.ir import OPS, Graph
from midge.passes import run
from midge.passes.channels_last_io import last_io
from midge.passes.copy_outputs import copy_outputs
from midge.passes.dequantize_weights import dequantize_weights
from midge.passes.drop_channels import Dropped, drop_and_report
from midge.passes.drop_dead import drop_dead
from midge.passes.fit_elementwise import fit_elementwise
from midge.passes.fit_requantize import fit_requantize
from midge.passes.fold_constants import fold_constants
from midge.passes.fold_padding import fold_padding
from midge.passes.fold_scale_and_bias import fold_scale_and_bias
from midge.passes.fold_zero_points import fold_zero_points
from midge.passes.fuse_activations import fuse_activations
from midge.passes.fuse_gelu import fuse_gelu
from midge.passes.fuse_hard_swish import fuse_hard_swish
from midge.passes.fuse_quantized import fuse_quantized
from midge.passes.fuse_tables import fuse_tables
from midge.passes.join_dilations import join_dilations
from midge.passes.join_parts import join_parts
from midge.passes.keep_order import keep_order
from midge.passes.legalize import legalize
from midge.passes.merge_clips import merge_clips
from midge.passes.move_transposes import move_transposes
from midge.passes.raise_reshapes import raise_reshapes
from midge.passes.read_halves import read_halves
from midge.passes.scale_products import scale_products
from midge.passes.sink_reshapes import sink_reshapes
from midge.passes.spell_powers import spell_powers
from midge.passes.split_global_pools import split_global_pools

# Model level: nodes mean what the framework means, tensors are quantised.
MODEL_PASSES = (
    join_dilations,
    fuse_quantized,
    move_transposes,
    fuse_quantized,
    keep_order,
    scale_products,
    dequantize_weights,
    fold_constants,
    spell_powers,
    drop_dead,
    move_transposes,
    merge_clips,
    fuse_gelu,
    fuse_hard_swish,
    sink_reshapes,
    fold_padding,
    fold_scale_and_bias,
    fuse_activations,
    drop_dead,
    copy_outputs,
)
# To the plain level: integer arithmetic is spelled out.
PLAIN_PASSES = (legalize, fold_constants, fold_zero_points, split_global_pools, drop_dead)
# At the plain level, once no channel is left that nobody needs: the same bytes in less work.
CHEAPER_PASSES = (raise_reshapes, fit_requantize, fuse_tables, fit_elementwise, join_parts)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The model level, ready to be spelled out. turned: the inputs and outputs that have their
    channels last, which the model has not."""

    graph: Graph
    turned: frozenset[str]


def prepare(graph: Graph, *, halves: bool = False, channels_last: bool = False) -> Prepared:
    """The model level. halves: weights stay float16 in flash.  channels_last: images go in and
    come out as [N, H, W, C] where the model has [N, C, H, W] and would transpose them."""
    turned: frozenset[str] = frozenset()
    if channels_last:
        graph, turned = last_io(run(MODEL_PASSES, graph))
    return Prepared(run((read_halves, *MODEL_PASSES) if halves else MODEL_PASSES, graph), turned)


def spell_out(model: Graph) -> tuple[Graph, Dropped]:
    """The plain graph without the channels that nobody needs, and which those are."""
    plain, dropped = drop_and_report(run(PLAIN_PASSES, model))
    return run(CHEAPER_PASSES, plain), dropped


def narrowed_types(model: Graph, plain: Graph) -> dict[str, TensorType]:
    """The model's types, with the channels that are left in `plain`."""
    shapes = {n: t.shape for n, t in plain.types.items() if n not in plain.consts}
    return {n: replace(t, shape=shapes.get(n, t.shape)) for n, t in model.types.items()}


def check_constants(graph: Graph, model: Graph) -> None:
    """ModelError if a constant has become infinite, or no number, on its way through the passes
    from `model`. Infinities that the model itself has (in masks) may stay, and those of a mask that
    was quantised, whose least number is just beyond binary32."""
    _check_weights(model)
    masks = any(
        t.dtype.is_float and np.isinf(model.consts[n]).any()
        for n, t in model.types.items()
        if n in model.consts
    )
    for name, array in graph.consts.items():
        if not graph.types[name].dtype.is_float:
            continue
        hides = ((array == 0) | (array == -np.inf)).all()
        if np.isnan(array).any() or (not (masks or hides) and np.isinf(array).any()):
            raise ModelError(
                "is not finite once computed",
                where=f"constant {name!r}",
                hint="weights or scales of the model are too large for binary32",
            )


def _check_weights(model: Graph) -> None:
    """ModelError for infinite weights of sums of products: of what is 0 they make no number."""
    for node in model.nodes:
        weights = [n for n in node.inputs[1:2] if n in model.consts]
        if OPS[node.op].channel_axis is None or not weights:
            continue
        if model.types[weights[0]].dtype.is_float and np.isinf(model.consts[weights[0]]).any():
            raise ModelError(
                "multiplies by infinite weights",
                where=f"{node.where}, constant {weights[0]!r}",
                hint="the training has diverged: train again",
            )
