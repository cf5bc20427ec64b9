"""Packages of trees say what they are, and what their classes are called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge
from c_program import STRICT, call, command
from conftest import DIGITS
from midge import driver
from midge.codegen.names import string_literal
from midge.frontends.onnx import read
from midge.graph.ir import Graph
from midge.graph.text import parse_graph
from onnx_builder import OnnxModel

sklearn_tree = pytest.importorskip("sklearn.tree", reason="pip install '.[trees]'")
ensemble = pytest.importorskip("sklearn.ensemble", reason="pip install '.[trees]'")

pytestmark = pytest.mark.slow

X = np.array([[0.0], [1.0], [2.0], [0.1], [1.1], [2.1]])
HOSTILE = ['a"b\\', "*/ evil ??/", "caf\u00e9 \u5165", "[x](y)|<b>\n", ""]


def fitted(*classes: Any, kind: Any = None) -> Any:
    model = (kind or sklearn_tree.DecisionTreeClassifier)(random_state=0)
    return model.fit(X, np.array(classes * 2))


def package_of(graph: Graph) -> midge.Package:
    return midge.compile(graph, "host", search=False, prove=False)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (("setosa", "versicolor", "virginica"), ("setosa", "versicolor", "virginica")),
        ((False, True, True), ("False", "True")),
        (("2", "1", "0"), ("0", "1", "2")),
        ((0, 1, 2), ()),
        ((3, 7, 9), ()),
        ((1.0, 2.0, 3.0), ()),
    ],
)
@pytest.mark.parametrize("outputs", [(), ("label", "probabilities"), ("probabilities",)])
def test_names_where_labels_are_positions(
    classes: tuple[Any, ...], names: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    graph = midge.from_sklearn(fitted(*classes), outputs=outputs, name="net")
    assert graph.classes == names
    package = package_of(graph)
    assert package.metadata["classes"] == list(names)
    assert ("## Classes" in package.files["README.md"]) == bool(names)
    assert ("NET_CLASSES" in package.files["net.h"]) == bool(names)


def test_the_readme_speaks_of_trees() -> None:
    for kind in (None, ensemble.RandomForestClassifier, ensemble.GradientBoostingClassifier):
        readme = package_of(midge.from_sklearn(fitted("a", "b", "c", kind=kind))).files["README.md"]
        assert readme.splitlines()[2].startswith("Decision trees in C, compiled by Midge")
        assert "neural" not in readme
    net = midge.compile(DIGITS, search=False, prove=False).files["README.md"]
    assert net.splitlines()[2].startswith("A neural network in C, compiled by Midge")


def test_outputs_are_those_asked_for_in_their_order() -> None:
    model = fitted("a", "b", "c", kind=ensemble.GradientBoostingClassifier)
    wanted = ("scores", "label", "probabilities")
    package = package_of(midge.from_sklearn(model, outputs=wanted, name="net"))
    assert tuple(t.name for t in package.outputs) == wanted
    with pytest.raises(midge.ModelError, match="has no output 'value'") as error:
        midge.from_sklearn(model, outputs="value")
    assert error.value.hint == "one of label, probabilities, scores"
    for word in ("label", "probabilities", "scores", "value", "classes_"):
        assert word in str(midge.from_sklearn.__doc__)


def test_names_go_through_files_texts_and_names(tmp_path: Path) -> None:
    graph = midge.from_sklearn(fitted(*HOSTILE[:3]), name="net")
    assert graph.classes == tuple(sorted(HOSTILE[:3]))
    assert parse_graph(str(graph), graph.consts) == graph
    midge.save(graph, tmp_path / "net.midge")
    assert midge.load(tmp_path / "net.midge") == graph
    assert driver.renamed(graph, "other").classes == graph.classes


def test_any_name_is_a_string_of_c(tmp_path: Path) -> None:
    graph = midge.from_sklearn(fitted(*HOSTILE[:3]), name="net")
    from dataclasses import replace

    package = package_of(replace(graph, classes=tuple(HOSTILE)))
    folder = package.save(tmp_path / "net")
    assert "evil ??/" not in package.files["net.h"]
    (folder / "use.c").write_text(
        '#include "net.h"\n#include <stdio.h>\nint main(void)\n{\n'
        "    static const char *const names[] = NET_CLASSES;\n"
        "    for (unsigned i = 0U; i < NET_CLASS_COUNT; ++i) { (void)fwrite(names[i], 1U, "
        "sizeof(char) * __builtin_strlen(names[i]) + 1U, stdout); }\n    return 0;\n}\n"
    )
    flags = [*STRICT, "-Wtrigraphs"]
    call([*command("gcc"), *flags, "-I.", "use.c", *package.sources, "-o", "use"], folder)
    said = call([str(folder / "use")], folder).decode()
    assert said.split("\0")[:-1] == HOSTILE
    (table,) = re.findall(r"\| number \| class \|\n.*?\n\n", package.files["README.md"], re.DOTALL)
    assert all(line.count("|") == 3 for line in table.splitlines() if line)
    assert string_literal('a"1\u00e9') == '"a\\0421\\303\\251"'


def test_onnx_classifiers_with_names() -> None:
    m = OnnxModel()
    words = {"classlabels_strings": ["no", "yes"], "coefficients": [1.0, 2.0, 3.0, 4.0]}
    m.op("LinearClassifier", "x", output="label", intercepts=[0.0, 1.0], **words)
    m.nodes[-1].domain = "ai.onnx.ml"
    driver.load_operators()
    data = m.build([("x", (1, 2))], ["label"])
    assert read(data, "net").classes == ("no", "yes")


def test_a_repr_fits_a_screen() -> None:
    graph = midge.load(DIGITS)
    wide = midge.from_sklearn(
        fitted("a", "b", "c"), outputs=("label", "probabilities"), name="n" * 90
    )
    for thing in (graph, wide, package_of(graph), package_of(wide)):
        lines = repr(thing).splitlines()
        assert len(lines) <= 12
        assert all(len(line) <= 80 for line in lines), repr(thing)
    assert repr(graph).startswith("<Graph digits_int8: ")
    assert repr(package_of(graph)).startswith("<Package digits_int8 for host\n  arena ")
    run = midge.run(package_of(graph), np.zeros((5, 8, 8, 1), np.int8), on="host")
    assert repr(run) == "<Run: 5 inferences\n  outputs  StatefulPartitionedCall_1:0: int8[5, 10]>"
    assert str(graph).count("\n") > 10
    assert parse_graph(str(graph), graph.consts) == graph
