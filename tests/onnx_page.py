"""docs/onnx.md: what of ONNX is supported, generated from the operators and the official cases."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

import onnx_cases
from midge.frontends.onnx_static import STATIC
from midge.graph.importers import IMPORTERS

_HEAD = """\
# ONNX

    midge compile model.onnx -o build
    midge verify model.onnx          # against ONNX Runtime: pip install '.[verify]'

Models of operator set 13 and above are read as they are; older ones in today's words, as far as
the words have kept their meaning. `midge.onnx_backend` is a backend in the sense of
`onnx.backend.base`: the outputs come from the generated C, on this machine.

* **Shapes are static.** An open first dimension (the batch) is compiled as 1; for others the
  shape of the input is asked for: `--shape NAME=1,16,3`, in Python `shapes={"NAME": (1, 16, 3)}`.
* **What depends on constants only is computed when compiling**: the arithmetic of shapes, weights
  that are transposed or scaled, `If` with a constant condition. What must be constant and is not
  (a shape, an axis, pads, ...) is an error that names it.
* **Functions** of the model, and operators that their schema defines by simpler ones, are read in
  their place.
* **Layout.** Convolutions and pools want channels last: transpositions move until they meet their
  inverse. One is left at an image input of several channels, and at an image output.
  One-dimensional convolutions run as images of width 1, whose rows are the steps in time.
* **Quantised models** (QDQ and QOperator) give ONNX Runtime's bytes. Where it adds floats or
  approximates a function in its own way, results are bounded by a step
  ([numerics.md](numerics.md#floats-that-become-integers)).
* **Recurrent layers** (LSTM, GRU, RNN) are unrolled over time; all steps call the same functions.
* **Data in other files** (external data, as PyTorch's exporter writes it) is read from the
  model's folder, and from nowhere else.

Not there, by design: control flow (`Loop`, `Scan`, `If` on a computed condition), sequences,
optional values, strings, results whose shape depends on values (`NonZero`, `Compress`, `Unique`),
more than two spatial dimensions, and element types that microcontrollers have no use for.
"""


def page(outcomes: onnx_cases.Outcomes) -> str:
    """The page for the outcomes of all cases."""
    known = {*IMPORTERS["onnx"], *STATIC}
    own = sorted(k for k in known if "." not in k)
    other = sorted(k for k in IMPORTERS["onnx"] if "." in k)
    cases = {c.name for c in onnx_cases.cases()}
    node = onnx_cases.node_names()
    parts = [
        _HEAD,
        "## Operators\n",
        _paragraph(own) + "\n",
        *(["Of other domains:\n\n" + _paragraph(other) + "\n"] if other else []),
        "Operators that their schema defines by these are supported with them.\n",
        "## The official test cases\n",
        "Of the cases in `onnx.backend.test` each is either passed, by evaluation and by the\n"
        "generated C, or refused with a `ModelError`, but for "
        f"{len(onnx_cases.OTHERWISE)} of which ONNX Runtime\n"
        "makes something else; Midge follows it\n"
        "([numerics.md](numerics.md#where-onnx-runtime-and-the-specification-disagree)):\n\n"
        + _paragraph(sorted(n.removeprefix("test_") for n in onnx_cases.OTHERWISE))
        + "\n",
        "| kind | cases | passed | refused | as ONNX Runtime |\n|---|---:|---:|---:|---:|",
        _row("node", node, outcomes),
        _row("simple and PyTorch", cases - node, outcomes) + "\n",
        "Refused, by reason:\n",
        *_reasons(outcomes.refused),
    ]
    return "\n".join(parts)


def _row(kind: str, names: set[str], outcomes: onnx_cases.Outcomes) -> str:
    refused, other = len(names & outcomes.refused.keys()), len(names & onnx_cases.OTHERWISE)
    return f"| {kind} | {len(names)} | {len(names) - refused - other} | {refused} | {other} |"


def _reasons(refused: dict[str, str]) -> Iterable[str]:
    """Each reason with its cases, the most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in refused.items():
        by_reason.setdefault(reason, []).append(name.removeprefix("test_"))
    for reason, names in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        text = re.sub(r"[|<>*_`]", lambda m: "\\" + m[0], reason)
        yield f"**{text}** ({len(names)})\n\n{_paragraph(sorted(names))}\n"


def _paragraph(names: Iterable[str]) -> str:
    text = ", ".join(f"`{n}`" for n in names)
    return textwrap.fill(text, 99, break_long_words=False, break_on_hyphens=False)
