"""Inputs and outputs keep the names that the model gives them: in the package, metadata and C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import midge
from c_program import STRICT, call, command
from conftest import DIGITS
from midge import driver
from midge.codegen.names import port_aliases
from midge.frontends.onnx import read
from midge.graph.ir import Graph
from onnx_builder import OnnxModel
from small_models import MODELS, graph

pytestmark = pytest.mark.slow


def several() -> Graph:
    """Outputs that are views, that are read on, that are equal, and that come as they went in."""
    m = OnnxModel()
    m.op("Relu", "x", output="hidden")
    m.op("Reshape", "hidden", m.ints(2, 2), output="square")
    m.linear("hidden", 4, 3, output="scores")
    m.op("Identity", "x", output="copy")
    m.op("ArgMax", "scores", axis=1, output="label")
    driver.load_operators()
    data = m.build([("x", (1, 4))], ["label", "scores", "hidden", "square", "copy"])
    return read(data, "net")


@pytest.mark.parametrize("options", [{}, {"bands": False}, {"static_arena": True}], ids=str)
def test_names_stay(options: dict[str, bool]) -> None:
    source = several()
    package = midge.compile(source, search=False, prove=False, **options)
    assert tuple(t.name for t in package.inputs) == source.inputs
    assert tuple(t.name for t in package.outputs) == source.outputs
    found = package.metadata["outputs"]
    assert [p["name"] for p in found] == list(source.outputs)
    assert [p["c_name"] for p in found] == [f"net_output_{i}" for i in range(5)]
    assert [p["c_alias"] for p in found] == [f"net_output_{n}" for n in source.outputs]
    run = midge.run(package, np.ones((1, 4), np.float32), on="host")
    assert tuple(run.outputs) == source.outputs


def test_c_knows_them(tmp_path: Path) -> None:
    package = midge.compile(several(), "host", search=False, prove=False)
    folder = package.save(tmp_path / "net")
    (folder / "use.c").write_text(
        '#include "net.h"\n#include <stdio.h>\nint main(void)\n{\n'
        "    static _Alignas(NET_ARENA_ALIGN) uint8_t arena[NET_ARENA_SIZE];\n"
        "    net_context c;\n    if (net_init(&c, arena, sizeof arena) != MIDGE_OK) { return 1; }\n"
        "    for (int i = 0; i < 4; ++i) { net_input_x(&c)[i] = (float)i; }\n"
        "    if (net_run(&c) != MIDGE_OK) { return 2; }\n"
        "    if (net_output_label(&c) != net_output_0(&c)) { return 3; }\n"
        "    return (net_output_copy(&c)[3] == 3.0f) ? 0 : 4;\n}\n"
    )
    call([*command("gcc"), *STRICT, "-I.", "use.c", *package.sources, "-o", "use"], folder)
    call([str(folder / "use")], folder)


def test_names_that_are_no_cs_have_their_numbers_only() -> None:
    digits = midge.compile(DIGITS, name="digits", search=False, prove=False)
    assert [p["c_alias"] for p in digits.metadata["outputs"]] == [None]
    assert "by the names" not in digits.files["digits.h"]
    ports = midge.compile(graph(MODELS["ports"](), "net"), search=False, prove=False)
    readme = ports.files["README.md"]
    assert "`net_output_1`, `net_output_product`" in readme
    assert port_aliases("output", ["a", "b c", "1", "n" * 41, "int", "\u00e9"]) == [
        "output_a", "", "", "", "output_int", "",
    ]  # fmt: skip
    assert port_aliases("output", ["a", "b", "a"]) == ["", "output_b", ""]
