"""Convolutions and fully connected layers with blocks of accumulators in registers.

A block of 2 channels x 2 pixels loads four values for four products instead of eight; a fully
connected layer, where there are no two pixels, takes four rows of weights at a time; a depthwise
one two pixels of a channel. The best of 1x1, 2x1, 4x1, 1x2, 2x2 and 4x2 on Cortex-M3, M4, M7, M33
and RV32IMAC; with the eight registers of Armv6-M every block spills and the plain loops win.
"""

from __future__ import annotations

from midge.core.target import Target
from midge.kernels.generic.windows import border
from midge.loop import ir
from midge.loop.rewrite import loops_in
from midge.loop.schedule import Reorder, Split, Unroll
from midge.lower.fuse import Group
from midge.lower.schedules import SCHEDULES, Schedule

FEW_REGISTERS = "few-registers"
_CHANNELS, _PIXELS, _ROWS = 2, 2, 4


def convolution(func: ir.Func, group: Group, target: Target) -> tuple[Schedule, ...]:
    """2 channels x 2 columns (depthwise: 2 columns), border columns apart; where that is not
    possible, those alone."""
    peel = border(func, group)
    peeled: Schedule = () if peel is None else (peel,)
    if FEW_REGISTERS in target.features:
        return (peeled,)
    extents = {s.var: s.extent for s in loops_in(func.body)}
    columns = extents["ow"] - (0 if peel is None else peel.first + peel.last)
    splits: list[Split] = []
    depthwise = "ic" not in extents
    if not depthwise and extents["oc"] % _CHANNELS == 0:
        splits.append(Split("oc", _CHANNELS))
    if columns >= _PIXELS:
        splits.append(Split("ow", _PIXELS, tail="peel" if columns % _PIXELS else "exact"))
    summed = ("oc", "kh", "kw") if depthwise else ("kh", "kw", "ic")
    return ((*peeled, *_blocked(splits, summed)), peeled)


def dense(func: ir.Func, group: Group, target: Target) -> tuple[Schedule, ...]:
    """4 rows of weights at a time, or 2."""
    extents = {s.var: s.extent for s in loops_in(func.body)}
    if FEW_REGISTERS in target.features:
        return ()
    fits = (f for f in (_ROWS, _ROWS // 2) if extents["n"] % f == 0)
    return tuple(_blocked([Split("n", f)], ("k",)) for f in fits)


def _blocked(splits: list[Split], reduced: tuple[str, ...]) -> Schedule:
    """Split, put the blocks inside the loops of the sum, and write them out."""
    if not splits:
        return ()
    inner = tuple(f"{s.loop}_i" for s in splits)
    outer = tuple(f"{s.loop}_o" for s in splits[:1]) if len(splits) > 1 else ()
    return (*splits, Reorder((*outer, *reduced, *inner)), *(Unroll(i) for i in inner))


SCHEDULES.add("conv2d", convolution)
SCHEDULES.add("depthwise_conv2d", convolution)
SCHEDULES.add("dense", dense)
