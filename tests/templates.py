"""What templates make of a request."""

from __future__ import annotations

from midge.lower.candidates import FAMILIES, TEMPLATES, Candidate, Request
from midge.lower.space import Goal

# Operator and sort of kernel -> the templates of that sort.
WAYS = {
    "conv2d/arm_dsp": ("arm_dsp.pixels", "arm_dsp.rows"),
    "conv2d/arm_dsp_winograd": ("arm_dsp.winograd",),
    "conv2d/arm_dsp_int16": ("arm_dsp.lines16",),
    "conv2d/arm_fpu": ("arm_fpu.sums",),
    "depthwise_conv2d/arm_dsp": ("arm_dsp.column", "arm_dsp.planes"),
    "dense/arm_dsp": ("arm_dsp.dense",),
    "dense/arm_dsp_int16": ("arm_dsp.lines16",),
    "dense/arm_fpu": ("arm_fpu.sums",),
    "max_pool2d/arm_dsp": ("arm_dsp.windows",),
    "avg_pool2d/arm_dsp": ("arm_dsp.windows",),
    "sum/arm_dsp": ("arm_dsp.windows",),
    "max_pool2d/generic": ("generic.spans",),
    "avg_pool2d/generic": ("generic.spans",),
    "tree_ensemble/arm_dsp": ("arm_dsp.votes",),
    "tree_ensemble/generic": ("generic.trees",),
}


def made(key: str, request: Request, optimize: str = "speed") -> list[Candidate]:
    """What is usual, where the family is on."""
    found: list[Candidate] = []
    for name in WAYS[key]:
        family = FAMILIES[name.partition(".")[0]]
        space = TEMPLATES[name].of(request) if family.features <= request.target.features else None
        if space is not None:
            found += map(space.build, space.usual(Goal(optimize)))
    return found
