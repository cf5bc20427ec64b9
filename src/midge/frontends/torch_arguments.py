"""Arguments of a PyTorch operator, and which of them its rule has read.

What a rule does not read, it cannot compute with: an argument that is there, unread and not known
to leave the values alone is refused. A file has the arguments, but not the schema's defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from midge.core.errors import ModelError
from midge.core.types import DType
from midge.graph.importers import Foreign

# Arguments that say where and how values lie, what is random or a gradient: never what is computed.
_NEVER = frozenset(
    "memory_format layout device pin_memory non_blocking copy generator requires_grad implicit "
    "cudnn_enable cudnn_enabled sparse_grad momentum".split()
)
# The same of single operators. Recurrent layers and dropout read whether they are in training.
# Those that are sorted unasked, and stably, are as good as those that need not be.
HARMLESS = {
    "aten.dropout": "p", "aten.feature_dropout": "p",
    "aten.lstm": "dropout", "aten.gru": "dropout",
    "aten.rnn_tanh": "dropout", "aten.rnn_relu": "dropout",
    "aten.embedding": "padding_idx scale_grad_by_freq sparse",
    "aten.topk": "sorted", "aten.sort": "stable", "aten.argsort": "stable",
    "aten.native_group_norm": "N C HxW", "aten.repeat_interleave": "output_size",
    "aten.instance_norm": "running_mean running_var",
    "aten._native_batch_norm_legit": "running_mean running_var",
    "quantized_decomposed.dequantize_per_tensor": "quant_min quant_max",
    "quantized_decomposed.dequantize_per_channel": "quant_min quant_max",
}  # fmt: skip
# Values of the schemas' defaults, or that mean the same.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "half_to_float": (False,),
    "output_padding": (0, (0,), (0, 0), (0, 0, 0)),
    "out_dtype": (DType.F32,),
}


class Arguments(Mapping[str, Any]):
    """Argument name -> value, in the order of the file; looking one up counts as reading it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        self._read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def check_read(self, op: Foreign) -> None:
        """ModelError for an argument that matters and that nobody has read."""
        for name, value in self._values.items():
            if name not in self._read and not _is_harmless(op.kind, name, value):
                raise _unread(op, name, value)


def _is_harmless(kind: str, name: str, value: Any) -> bool:
    if value is None or name in _NEVER or name in HARMLESS.get(kind, "").split():
        return True
    return any(type(value) is type(v) and value == v for v in _PLAIN.get(name, ()))


def _unread(op: Foreign, name: str, value: Any) -> ModelError:
    shown = value.value if isinstance(value, DType) else repr(value)
    return op.error(
        f"argument {name}={shown} is not supported",
        f"leave {name} at its default, or compute without this operator",
    )
