"""The official cases of onnx.backend.test: passed, or refused with a reason that docs/onnx.md
lists. `--update-golden` writes that page anew."""

from __future__ import annotations

from pathlib import Path

import pytest

import onnx_cases
import onnx_page

_PAGE = Path(__file__).parents[1] / "docs" / "onnx.md"
_CHUNKS = 12

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def chunk(number: int) -> onnx_cases.Outcomes:
    return onnx_cases.read(onnx_cases.cases()[number::_CHUNKS])


@pytest.mark.parametrize("number", range(_CHUNKS))
def test_cases_give_their_outputs(number: int) -> None:
    """By evaluation and by the generated C."""
    ready = chunk(number).ready
    for case in ready:
        onnx_cases.check_evaluation(case)
    onnx_cases.check_c(ready, f"onnx_cases_{number}")


def test_other_outputs_are_onnxruntimes() -> None:
    """By evaluation and by the generated C."""
    found = onnx_cases.read(onnx_cases.cases()).otherwise
    assert {r.case.name for r in found} == onnx_cases.OTHERWISE
    judged = [onnx_cases.by_onnxruntime(r) for r in found]
    for theirs, judge in zip(found, judged, strict=True):
        with pytest.raises(AssertionError):
            onnx_cases.check_evaluation(theirs)
        onnx_cases.check_evaluation(judge)
    onnx_cases.check_c(judged, "onnx_cases_otherwise")


def test_the_page_lists_what_is_refused(request: pytest.FixtureRequest) -> None:
    text = onnx_page.page(onnx_cases.read(onnx_cases.cases()))
    if request.config.getoption("--update-golden"):
        _PAGE.write_text(text, encoding="utf-8", newline="\n")
    assert _PAGE.read_text(encoding="utf-8") == text, "run with --update-golden, review the diff"


def test_at_least_600_node_cases_pass() -> None:
    node = onnx_cases.node_names()
    refused = onnx_cases.read([c for c in onnx_cases.cases() if c.name in node]).refused
    assert len(node) - len(refused) >= 600
