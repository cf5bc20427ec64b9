"""Operators that Midge does not know: all of a model at once, and what its author can do instead.

A way out stands here for what cannot be a part of a compiled model (control flow, state, chance,
results whose shape depends on values), and for what another exporter option spells otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from midge.core.errors import ModelError
from midge.graph.importers import CONV_3D, CONV_TRANSPOSE_3D, POOL_3D

_MOST_PLACES = 3

_LOOP = "unroll it: export a loop over a number of steps that is known as that many copies"
_BRANCH = "choose the branch before the export; both of them and a select, if it depends on values"
_CHANCE = "draw random numbers outside of the model and hand them in as an input"
_BOXES = "end the model before it, at the raw boxes and scores, and choose among them in your code"
_SPECTRUM = "compute the spectrum before the model, and hand it in as the input"
_TEXT = "turn text into numbers before the model"
_STATE = "hand the state in as an input and out as an output, and keep it in your code"
_UNROLLED = "build it with keras.layers.LSTM(..., unroll=True), GRU and RNN likewise"
_GROWING = "its result's size depends on values: keep all elements, and a mask beside them"
_TRAINING = "export the model for inference, without the optimiser"
_NATIVE = "convert with tf.lite.OpsSet.TFLITE_BUILTINS alone, which spells it by built-in operators"
_DENSE = (
    "its weights are stored without their zeros: convert without EXPERIMENTAL_SPARSITY; of a "
    "file alone, take the variant of the model that is not called sparse"
)
_FOREIGN = (
    "no operator of TFLite, but of the program that the file is for: take a variant of the "
    "model without it, or end the model before it and compute it in your code"
)
_ALGEBRA = (
    "of a matrix that is constant: compute it before the export, and register the result as a "
    "buffer; of another: outside of the model"
)
_SEQUENCE = "hand tensors around instead of lists of tensors: torch.stack, torch.cat"

TFLITE: Mapping[str, str] = {
    **dict.fromkeys(("WHILE", "CALL"), _LOOP + "; of recurrent layers: " + _UNROLLED),
    "IF": _BRANCH,
    **dict.fromkeys(
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
         "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN"),
        _UNROLLED,
    ),
    **dict.fromkeys(
        ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "HASHTABLE", "SVDF"), _STATE
    ),
    **dict.fromkeys(("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"), _CHANCE),
    **dict.fromkeys(("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"), _BOXES),
    **dict.fromkeys(("RFFT2D", "COMPLEX_ABS", "REAL", "IMAG"), _SPECTRUM),
    **dict.fromkeys(("WHERE", "UNIQUE"), _GROWING),
    "FAKE_QUANT": "convert the model with quantisation, which takes these out: "
    "converter.optimizations = [tf.lite.Optimize.DEFAULT]",
    "custom operator TFLite_Detection_PostProcess": _BOXES,
    **dict.fromkeys(
        ("custom operator MaxPool3D", "custom operator AveragePool3D",
         "custom operator FlexMaxPool3D", "custom operator FlexAvgPool3D"),
        POOL_3D,
    ),
    "CONV_3D": CONV_3D,
    "CONV_3D_TRANSPOSE": CONV_TRANSPOSE_3D,
    "custom operator Flex*": _NATIVE,
    "custom operator *": _FOREIGN,
    "DENSIFY": _DENSE,
}  # fmt: skip
ONNX: Mapping[str, str] = {
    **dict.fromkeys(("Loop", "Scan"), _LOOP),
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"),
        _CHANCE,
    ),
    **dict.fromkeys(("NonMaxSuppression", "RoiAlign", "MaxRoiPool"), _BOXES),
    **dict.fromkeys(("DFT", "STFT", "MelWeightMatrix"), _SPECTRUM),
    **dict.fromkeys(
        ("StringNormalizer", "StringConcat", "StringSplit", "TfIdfVectorizer", "RegexFullMatch"),
        _TEXT,
    ),
    **dict.fromkeys(("NonZero", "Compress", "Unique"), _GROWING),
    **dict.fromkeys(
        ("SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt",
         "SequenceLength", "SplitToSequence", "ConcatFromSequence", "Optional",
         "OptionalGetElement", "OptionalHasElement"),
        _SEQUENCE,
    ),
    **dict.fromkeys(("Det", "com.microsoft.Inverse"), _ALGEBRA),
    "DynamicQuantizeLinear": "quantise with scales that are constants: "
    "onnxruntime.quantization.quantize_static in place of quantize_dynamic, or `midge quantize` of "
    "the model in float",
    "ImageDecoder": "decode the image before the model, and hand in its pixels",
    "Scatter": "export with opset 11 or above, where it is ScatterElements",
    **dict.fromkeys(
        ("ai.onnx.ml.DictVectorizer", "ai.onnx.ml.CategoryMapper", "ai.onnx.ml.CastMap"),
        "hand in numbers in a fixed order instead of maps and names",
    ),
    **dict.fromkeys(
        ("ai.onnx.preview.training.Adam", "ai.onnx.preview.training.Adagrad",
         "ai.onnx.preview.training.Momentum", "ai.onnx.preview.training.Gradient"),
        _TRAINING,
    ),
    "com.microsoft.nchwc.*": "save the optimised model at ORT_ENABLE_EXTENDED: above that it is "
    "for one CPU",
}  # fmt: skip
TORCH: Mapping[str, str] = {
    **dict.fromkeys(("higher_order.while_loop*", "higher_order.scan*"), _LOOP),
    "higher_order.cond*": _BRANCH,
    **dict.fromkeys(
        ("aten.rand.*", "aten.randn.*", "aten.rand_like.*", "aten.randn_like.*", "aten.randint.*",
         "aten.bernoulli.*", "aten.multinomial.*"),
        _CHANCE,
    ),
    **dict.fromkeys(("torchvision.nms*", "torchvision.roi_align*"), _BOXES),
    **dict.fromkeys(("aten.stft.*", "aten.fft_*", "aten._fft_*"), _SPECTRUM),
    **dict.fromkeys(("aten.nonzero.*", "aten.masked_select.*", "aten.unique*"), _GROWING),
    **dict.fromkeys(("aten.median.*", "aten.kthvalue.*"), "take the last of x.topk(k)[0]"),
    **dict.fromkeys(("aten.bucketize.*", "aten.searchsorted.*"), "(x[..., None] > edges).sum(-1)"),
    **dict.fromkeys(("aten.diagonal.*", "aten.trace.*"), "(x * torch.eye(n)).sum(-1)"),
    **dict.fromkeys(
        ("aten.cdist.*", "aten._cdist*"), "((a[:, None] - b[None]) ** 2).sum(-1).sqrt()"
    ),
    **dict.fromkeys(
        ("aten.scatter_add.*", "aten.index_put.*", "aten.index_add.*"),
        "choose by torch.where, or multiply by a matrix of ones and zeros",
    ),
    **dict.fromkeys(
        ("aten.avg_pool3d.*", "aten.max_pool3d*"), POOL_3D
    ),
    **dict.fromkeys(
        ("aten.grid_sampler*", "aten.affine_grid*"),
        "resample the image before the model; by a factor, torch.nn.functional.interpolate does",
    ),
    **dict.fromkeys(
        ("aten.linalg_inv*", "aten.linalg_pinv*", "aten.inverse*", "aten.pinverse*",
         "aten.linalg_solve*", "aten._linalg_solve*", "aten.linalg_det*", "aten._linalg_det*",
         "aten.linalg_slogdet*", "aten._linalg_slogdet*", "aten.linalg_cholesky*",
         "aten.linalg_qr*", "aten.linalg_svd*", "aten._linalg_svd*", "aten.linalg_eig*",
         "aten._linalg_eigh*", "aten.linalg_lu*", "aten.linalg_lstsq*"),
        _ALGEBRA,
    ),
    "aten.hypot.*": "(x * x + y * y).sqrt()",
    "aten.copysign.*": "torch.where(y < 0, -x.abs(), x.abs())",
    "aten.fmax.*": "torch.maximum",
    "aten.fmin.*": "torch.minimum",
    "aten.as_strided.*": "slices, x.unfold and x.reshape",
}  # fmt: skip


def unsupported(
    found: Iterable[tuple[str, str]], ways: Mapping[str, str], *, where: str, hint: str
) -> ModelError:
    """Operators that are not supported, as (kind, place), all of a model. hint: where there is no
    way out."""
    places: dict[str, list[str]] = {}
    for kind, place in found:
        places.setdefault(kind, []).append(place)
    if len(places) == 1:
        ((kind, own),) = places.items()
        what = f"{kind if ' ' in kind else f'operator {kind}'} is not supported"
        if len(own) > 1:
            what += f", {_said(own)}"
        place = own[0] if len(own) == 1 else where
        return ModelError(what, where=place, hint=_way(kind, ways) or hint)
    texts = "; ".join(f"{kind} ({_said(own)})" for kind, own in places.items())
    found_ways: dict[str, list[str]] = {}
    for kind in places:
        found_ways.setdefault(_way(kind, ways) or hint, []).append(kind)
    return ModelError(
        f"{len(places)} kinds of operators are not supported: {texts}",
        where=where,
        hint="; ".join(f"{', '.join(kinds)}: {way}" for way, kinds in found_ways.items()),
    )


def _said(places: list[str]) -> str:
    more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
    count = f"{len(places)} times: " if len(places) > 1 else ""
    return f"{count}{', '.join(places[:_MOST_PLACES])}{more}"


def _way(kind: str, ways: Mapping[str, str]) -> str:
    """The way out for an operator, by its name or by the start of it."""
    starts = (own for own in ways if own.endswith("*") and kind.startswith(own[:-1]))
    return ways.get(kind) or ways.get(next(starts, ""), "")
