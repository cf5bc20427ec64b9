"""PyTorch's layers: convolutions, matrix products, pools, norms, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

import numpy as np

from midge.core.types import DType
from midge.graph.ir import Attr
from midge.ops._torch import Aten, add
from midge.ops.torch_shapes import last_two_turned


def convolution(a: Aten) -> str:
    """conv1d, conv2d, conv_transpose1d, conv_transpose2d and `convolution`, which is all of them;
    without a batch, too."""
    x, w = a.tensor("input"), a.tensor("weight")
    rank = len(a.shape(w)) - 2
    lone = len(a.shape(x)) == rank + 1
    if lone:
        x = a.reshape(x, (1, *a.shape(x)))
    is_transposed = a.op.attrs.get("transposed") is True or "conv_transpose" in a.op.kind
    attrs: dict[str, Attr] = {
        "strides": a.integers("stride", rank, (1,)),
        "dilations": a.integers("dilation", rank, (1,)),
        "group": a.integer("groups", 1),
    }
    padding = a.op.attrs.get("padding", 0)
    if isinstance(padding, str):
        attrs["pads"] = _same_pads(a, padding, a.shape(w)[2:])
    else:
        attrs["pads"] = a.integers("padding", rank, (0,)) * 2
    if is_transposed:
        attrs["output_padding"] = a.integers("output_padding", rank, (0,))
    bias = a.tensor("bias")
    inputs = [x, w, *([bias] if bias else [])]
    y = a.onnx("ConvTranspose" if is_transposed else "Conv", inputs, **attrs)
    return a.reshape(y, a.shape(y)[1:]) if lone else y


def _same_pads(a: Aten, padding: str, kernel: Sequence[int]) -> tuple[int, ...]:
    """ "same" puts the odd one behind; "valid" is none."""
    if padding == "valid":
        return (0,) * (2 * len(kernel))
    if padding != "same":
        raise a.op.error(f"padding {padding!r} is not supported")
    dilations = a.integers("dilation", len(kernel), (1,))
    totals = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    return (*(t // 2 for t in totals), *(t - t // 2 for t in totals))


add("convolution conv1d conv2d conv3d conv_transpose1d conv_transpose2d", convolution)


def linear(a: Aten) -> str:
    return _linear(a, a.tensor("input"), a.tensor("weight"), a.tensor("bias"))


def _linear(a: Aten, x: str, w: str, bias: str) -> str:
    """x * w^T + bias, on the rows of x."""
    shape, (n, k) = a.shape(x), a.shape(w)
    rows = a.reshape(x, (prod(shape[:-1]), k))
    y = a.node("dense", [rows, w, *([bias] if bias else [])])
    return a.reshape(y, (*shape[:-1], n))


def addmm(a: Aten) -> str:
    """beta * self + alpha * (mat1 * mat2)."""
    x, c = a.tensor("mat1"), a.tensor("self")
    alpha, beta = a.number("alpha", 1.0), a.number("beta", 1.0)
    return a.onnx("Gemm", [x, a.tensor("mat2"), c], alpha=alpha, beta=beta)


def matmul(a: Aten) -> str:
    names = ("self", "other") if "other" in a.op.attrs else ("self", "mat2")
    return a.onnx("MatMul", [a.tensor(n) for n in names])


def baddbmm(a: Aten) -> str:
    c, product = a.tensor("self"), a.onnx("MatMul", [a.tensor("batch1"), a.tensor("batch2")])
    if a.number("alpha", 1.0) != 1.0:
        product = a.onnx("Mul", [product, a.value(a.number("alpha"), DType.F32)])
    if a.number("beta", 1.0) == 0.0:
        return product
    if a.number("beta", 1.0) != 1.0:
        c = a.onnx("Mul", [c, a.value(a.number("beta"), DType.F32)])
    return a.onnx("Add", [product, c])


def einsum(a: Aten) -> str:
    return a.onnx("Einsum", a.tensors("tensors"), equation=a.op.attrs.get("equation", ""))


add("linear", linear)
add("addmm", addmm)
add("mm bmm matmul", matmul)
add("baddbmm", baddbmm)
add("einsum", einsum)


def pool(a: Aten) -> str:
    """max_pool and avg_pool of one or two dimensions."""
    name = a.op.kind.split(".")[1]
    rank = 1 if "1d" in name else 2
    x = a.tensor("self")
    lone = len(a.shape(x)) == rank + 1
    if lone:
        x = a.reshape(x, (1, *a.shape(x)))
    kernel = a.integers("kernel_size", rank)
    attrs: dict[str, Attr] = {
        "kernel_shape": kernel,
        "strides": a.integers("stride", rank, kernel),
        "pads": a.integers("padding", rank, (0,)) * 2,
        "ceil_mode": int(a.op.attrs.get("ceil_mode") is True),
    }
    if name.startswith("max"):
        attrs["dilations"] = a.integers("dilation", rank, (1,))
        y = a.onnx("MaxPool", [x], **attrs)
    else:
        if a.op.attrs.get("divisor_override") is not None:
            raise a.op.error("divisor_override is not supported")
        attrs["count_include_pad"] = int(a.op.attrs.get("count_include_pad") is not False)
        y = a.onnx("AveragePool", [x], **attrs)
    return a.reshape(y, a.shape(y)[1:]) if lone else y


add("max_pool1d max_pool2d max_pool2d_with_indices avg_pool1d avg_pool2d", pool)


def batch_norm(a: Aten) -> str:
    x = a.tensor("input")
    if a.op.attrs.get("training") is True:
        raise a.op.error("batch_norm is in training mode", "export the model after model.eval()")
    channels = a.shape(x)[1]
    mean, variance = a.tensor("running_mean"), a.tensor("running_var")
    if not mean or not variance:
        raise a.op.error("has no running mean and variance")
    ones, zeros = (a.value(np.full(channels, v), DType.F32) for v in (1.0, 0.0))
    inputs = [x, a.tensor("weight") or ones, a.tensor("bias") or zeros, mean, variance]
    return a.onnx("BatchNormalization", inputs, epsilon=a.number("eps", 1e-5))


def layer_norm(a: Aten) -> str:
    x = a.tensor("input")
    shape = a.integers("normalized_shape")
    ones, zeros = (a.value(np.full(shape, v), DType.F32) for v in (1.0, 0.0))
    axis = len(a.shape(x)) - len(shape)
    inputs = [x, a.tensor("weight") or ones, a.tensor("bias") or zeros]
    return a.onnx("LayerNormalization", inputs, axis=axis, epsilon=a.number("eps", 1e-5))


def group_norm(a: Aten) -> str:
    x = a.tensor("input")
    shape = a.shape(x)
    groups = a.integer("num_groups") if "num_groups" in a.op.attrs else a.integer("group")
    if groups < 1 or shape[1] % groups:
        raise a.op.error(f"{groups} groups do not fit {shape[1]} channels")
    ones, zeros = (a.value(np.full(groups, v), DType.F32) for v in (1.0, 0.0))
    parts = a.reshape(x, (shape[0], groups, prod(shape[1:]) // groups))
    y = a.onnx("InstanceNormalization", [parts, ones, zeros], epsilon=a.number("eps", 1e-5))
    y = a.reshape(y, shape)
    for kind, name in (("Mul", "weight"), ("Add", "bias")):
        if value := a.tensor(name):
            y = a.onnx(kind, [y, a.reshape(value, (shape[1], *[1] * (len(shape) - 2)))])
    return y


def instance_norm(a: Aten) -> str:
    """Each channel of each image by its own mean and variance."""
    x = a.tensor("input")
    if a.op.attrs.get("use_input_stats") is False:
        return batch_norm(a)
    channels = a.shape(x)[1]
    ones, zeros = (a.value(np.full(channels, v), DType.F32) for v in (1.0, 0.0))
    inputs = [x, a.tensor("weight") or ones, a.tensor("bias") or zeros]
    return a.onnx("InstanceNormalization", inputs, epsilon=a.number("eps", 1e-5))


def batch_statistics(a: Aten) -> str:
    """_native_batch_norm_legit: mean and variance of the batch, here of one image; those that are
    given outside of training."""
    if a.op.attrs.get("training") is False:
        return batch_norm(a)
    if a.shape(a.tensor("input"))[0] != 1:
        raise a.op.error("statistics of a batch are not supported", "export with a batch of 1")
    return instance_norm(a)


add("instance_norm", instance_norm)
add("_native_batch_norm_legit", batch_statistics)
add("batch_norm _native_batch_norm_legit_no_training native_batch_norm", batch_norm)
add("layer_norm native_layer_norm", layer_norm)
add("group_norm native_group_norm", group_norm)


def softmax(kind: str, a: Aten) -> str:
    x = a.typed(a.tensor("self"))
    return a.onnx(kind, [x], axis=a.axis("dim", len(a.shape(x))))


def safe_softmax(a: Aten) -> str:
    x = a.typed(a.tensor("self"))
    return _shares_or_none(a, x, a.axis("dim", len(a.shape(x))))


def _shares_or_none(a: Aten, x: str, axis: int) -> str:
    """The softmax of `x`; 0 where all are -infinity."""
    most = a.onnx("ReduceMax", [x, a.value([axis])], keepdims=1)
    nothing = a.onnx("Equal", [most, a.value(-math.inf, DType.F32)])
    shares = a.onnx("Softmax", [x], axis=axis)
    return a.onnx("Where", [nothing, a.value(0.0, DType.F32), shares])


add("softmax _softmax", lambda a: softmax("Softmax", a))
add("_safe_softmax", safe_softmax)
add("log_softmax _log_softmax", lambda a: softmax("LogSoftmax", a))


def attention(a: Aten) -> str:
    """scaled_dot_product_attention: softmax(q * k^T * scale + mask) * v."""
    q, k, v = (a.tensor(n) for n in ("query", "key", "value"))
    if a.number("dropout_p", 0.0):
        raise a.op.error("dropout is not supported", "export the model after model.eval()")
    if a.op.attrs.get("enable_gqa") is True:
        k, v = (_for_queries(a, name, a.shape(q)[-3]) for name in (k, v))
    rank, depth = len(a.shape(q)), a.shape(q)[-1]
    scale = a.op.attrs.get("scale")
    factor = a.value(depth**-0.5 if scale is None else scale, DType.F32)
    scores = a.onnx("MatMul", [a.onnx("Mul", [q, factor]), last_two_turned(a, k)])
    mask = a.tensor("attn_mask")
    if a.op.attrs.get("is_causal") is True:
        rows, columns = a.shape(q)[-2], a.shape(k)[-2]
        mask = a.value(np.tril(np.ones((rows, columns))), DType.BOOL)
    return a.onnx("MatMul", [_shares(a, scores, mask, rank - 1), v])


def _shares(a: Aten, scores: str, mask: str, axis: int) -> str:
    """The softmax of what a mask, of truth values or added, leaves; 0 where that is nothing."""
    if not mask:
        return a.onnx("Softmax", [scores], axis=axis)
    seen = _sees_something(a, mask)
    if a.type(mask).dtype is not DType.BOOL:
        scores = a.onnx("Add", [scores, mask])
        return a.onnx("Softmax", [scores], axis=axis) if seen else _shares_or_none(a, scores, axis)
    scores = a.onnx("Where", [mask, scores, a.value(-1e30, DType.F32)])
    shares = a.onnx("Softmax", [scores], axis=axis)
    return shares if seen else a.onnx("Where", [mask, shares, a.value(0.0, DType.F32)])


def _sees_something(a: Aten, mask: str) -> bool:
    """Whether no row of a mask hides everything: such rows are 0 in PyTorch."""
    known = a.consts.get(mask)
    if known is None:
        return False
    seen = known if known.dtype == np.bool_ else known > -np.inf
    return bool(seen.any(axis=-1).all())


def _for_queries(a: Aten, value: str, heads: int) -> str:
    """Keys or values of fewer heads, each as often as there are queries for it."""
    *lead, own, length, depth = a.shape(value)
    if own == heads or heads % max(own, 1):
        return value
    apart = a.reshape(value, (*lead, own, 1, length, depth))
    times = a.onnx("Expand", [apart, a.value([*lead, own, heads // own, length, depth])])
    return a.reshape(times, (*lead, heads, length, depth))


add("scaled_dot_product_attention", attention)
