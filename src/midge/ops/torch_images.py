"""PyTorch's operators that resize images and trade channels for pixels."""

from __future__ import annotations

from math import prod

from midge.core.types import DType
from midge.ops._torch import Aten, Rule, add

_NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
_MODES = {
    "nearest": {**_NEAREST, "nearest_mode": "floor"},
    "exact": {
        "mode": "nearest",
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_ceil",
    },
    "linear": {"mode": "linear"},
    "cubic": {"mode": "cubic"},
}


def resized(mode: str) -> Rule:
    """To a size, or by factors, which then also say where a pixel's neighbours are, unless the
    corners do."""

    def rule(a: Aten) -> str:
        x = a.tensor("self") or a.tensor("input")
        attrs = dict(_MODES[mode])
        if mode in ("linear", "cubic"):
            corners = bool(a.op.attrs.get("align_corners"))
            attrs["coordinate_transformation_mode"] = (
                "align_corners" if corners else "pytorch_half_pixel"
            )
        before = a.shape(x)[2:]
        output, factors = _sizes(a, len(before)), _factors(a, len(before))
        if not output and None in factors:
            raise a.op.error("has neither a size nor scale factors")
        scaled = [int(n * (f or 0)) for n, f in zip(before, factors, strict=True)]
        if None in factors or attrs.get("coordinate_transformation_mode") == "align_corners":
            sizes = a.value([*a.shape(x)[:2], *(output or scaled)])
            return a.onnx("Resize", [x, "", "", sizes], **attrs)
        if output and output != scaled:
            raise a.op.error(f"size {output} is not the input's times {factors}")
        scales = a.value([1.0, 1.0, *factors], DType.F32)
        return a.onnx("Resize", [x, "", scales], **attrs)

    return rule


def _sizes(a: Aten, rank: int) -> list[int]:
    """The size that is asked for; [] if it follows from factors."""
    given = a.op.attrs.get("output_size")
    return list(a.integers("output_size", rank)) if given else []


def _factors(a: Aten, rank: int) -> list[float | None]:
    """What every axis is scaled by, as the variants of the operators name it; None if unsaid."""
    names = ("scales",) if rank == 1 else ("scales_h", "scales_w")
    single = [a.op.attrs.get(name) for name in names]
    factors = list(a.op.attrs.get("scale_factors") or single)
    if len(factors) != rank or len(single) != rank:
        raise a.op.error(f"{len(factors)} scale factors for {rank} dimensions")
    if None in factors and factors != [None] * rank:
        raise a.op.error("a scale factor of one dimension only is not supported")
    return factors


add("upsample_nearest1d upsample_nearest2d", resized("nearest"))
add("_upsample_nearest_exact1d _upsample_nearest_exact2d", resized("exact"))
add("upsample_linear1d upsample_bilinear2d", resized("linear"))
add("upsample_bicubic2d", resized("cubic"))


def shuffle(a: Aten) -> str:
    x, r = a.tensor("self"), a.integer("upscale_factor")
    return a.onnx("DepthToSpace", [x], blocksize=r, mode="CRD")


def unshuffle(a: Aten) -> str:
    """Pixels of a block become channels, those of one channel together."""
    x, r = a.tensor("self"), a.integer("downscale_factor")
    *lead, c, h, w = a.shape(x)
    if r < 1 or h % r or w % r:
        raise a.op.error(f"blocks of {r} do not fit {h} x {w} pixels")
    blocks = a.reshape(x, (prod(lead), c, h // r, r, w // r, r))
    return a.reshape(a.permute(blocks, (0, 1, 3, 5, 2, 4)), (*lead, c * r * r, h // r, w // r))


def channel_shuffle(a: Aten) -> str:
    """The first channels of all groups, then the second ones, ..."""
    x, groups = a.tensor("self"), a.integer("groups")
    batch, c, *rest = a.shape(x)
    if groups < 1 or c % groups:
        raise a.op.error(f"{groups} groups do not fit {c} channels")
    parts = a.reshape(x, (batch, groups, c // groups, prod(rest)))
    return a.reshape(a.permute(parts, (0, 2, 1, 3)), (batch, c, *rest))


add("pixel_shuffle", shuffle)
add("pixel_unshuffle", unshuffle)
add("channel_shuffle native_channel_shuffle", channel_shuffle)
