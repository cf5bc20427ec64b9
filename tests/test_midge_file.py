""".midge files: graphs load back equal, whatever is in them; what is damaged is a ModelError."""

from __future__ import annotations

import contextlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import DIGITS, NO_SEARCH
from graphs import random_graph
from midge import driver, pipeline
from midge.core.errors import CompileError, ModelError
from midge.core.types import Array, DType, Quant, TensorType
from midge.data import random_inputs
from midge.export import save
from midge.frontends import parse
from midge.graph.archive import FIRST, VERSION, pack, unpack
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node
from midge.passes import run
from midge.target import load_target
from midge.verify import verify
from small_models import cnn_int8, graph


def small() -> Graph:
    return graph(cnn_int8())


# Equal.


def test_every_stage_of_a_model_loads_back_equal(digits: Path) -> None:
    model = driver.load(digits)
    plain = run(pipeline.PLAIN_PASSES, run(pipeline.MODEL_PASSES, model))
    for stage in (model, plain, pipeline.spell_out(model)[0]):
        assert unpack(pack(stage), stage.name) == stage


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_load_back_equal(seed: int) -> None:
    made = random_graph(random.Random(seed), quantised=seed % 2 == 0)
    again = unpack(pack(made), made.name)
    assert again == made
    assert pack(again) == pack(made)


def test_a_file_runs_like_the_model(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "net.midge"
    save(model, path)
    made = driver.compile_file(path, load_target("cortex-m4"), NO_SEARCH)
    inputs = random_inputs(model, 3, 1)
    for given_ in inputs:
        want, have = evaluate(model, given_), evaluate(made.model, given_)
        assert all(np.array_equal(want[n], have[n]) for n in model.outputs)
    assert verify(made, path, inputs, runners=("host",)).ok


names = st.text(min_size=1, max_size=12)
dtypes = st.sampled_from(list(DType))
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Any bytes in any type: scalars, empty ones, NaNs with every payload."""
    dtype, shape = draw(dtypes), draw(shapes)
    count = int(np.prod(shape))
    if dtype is DType.BOOL:
        bits = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        return np.array(bits, np.bool_).reshape(shape)
    raw = draw(st.binary(min_size=count * dtype.size, max_size=count * dtype.size))
    return np.frombuffer(raw, dtype.numpy).reshape(shape)


@st.composite
def quants(draw: st.DrawFn, t: DType) -> Quant | None:
    if not t.is_integer or draw(st.booleans()):
        return None
    scale = draw(st.floats(1e-30, 1e30, allow_nan=False))
    return Quant.per_tensor(scale, draw(st.integers(t.min, t.max)))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Views of constants and of an input, under odd names."""
    driver.load_operators()
    consts = draw(st.dictionaries(names, arrays(), min_size=1, max_size=4))
    types = {}
    for name, array in consts.items():
        dtype = DType.of(array)
        types[name] = TensorType(array.shape, dtype, draw(quants(dtype)))
    unused = names.filter(lambda n: n not in types)
    port = draw(unused)
    types[port] = TensorType((2, 3), DType.F32)
    nodes = []
    for source in (port, *consts):
        out = draw(names.filter(lambda n: n not in types))
        shape = (types[source].elements,)
        types[out] = TensorType(shape, types[source].dtype)
        src, kind = draw(st.text(max_size=8)), draw(st.text(max_size=8))
        nodes.append(Node("reshape", (source,), (out,), {"shape": shape}, src, kind))
    outputs = tuple(n.outputs[0] for n in nodes)
    return Graph(draw(names), (port,), outputs, types, consts, tuple(nodes))


@given(graphs())
def test_any_names_types_and_constants_load_back_equal(made: Graph) -> None:
    again = unpack(pack(made), made.name)
    assert again == made
    assert pack(again) == pack(made)


# Refused.


def attempt(data: bytes) -> str:
    """ "loaded" or the ModelError's text; any other exception is a failure."""
    driver.load_operators()
    try:
        unpack(data, "model")
    except ModelError as error:
        found = error
    else:
        return "loaded"
    assert found.what
    assert found.where
    return str(found)


def edited(change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The small model's file with other entries."""
    with zipfile.ZipFile(io.BytesIO(pack(small()))) as file:
        entries = {n: file.read(n) for n in file.namelist()}
    change(entries)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return out.getvalue()


def with_head(**fields: Any) -> bytes:
    def change(entries: dict[str, bytes]) -> None:
        entries[FIRST] = json.dumps({**json.loads(entries[FIRST]), **fields}).encode()

    return edited(change)


def test_a_later_version_is_refused_with_its_producer() -> None:
    answer = attempt(with_head(version=VERSION + 1, producer="midge 9.9"))
    assert f"version {VERSION + 1} of the format, this Midge knows {VERSION}" in answer
    assert "midge 9.9: upgrade Midge" in answer


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 0}, {"version": "1"}, {"version": True}, {"version": None}, {"format": "x"},
        {"constants": None}, {"constants": [1]}, {"constants": ["a", "a"]},
        {"constants": ["missing"] * 1}, {"constants": []},
    ],
)  # fmt: skip
def test_a_wrong_head_is_refused(fields: dict[str, Any]) -> None:
    assert attempt(with_head(**fields)) != "loaded"


def test_reals_that_nothing_states_are_refused() -> None:
    """An operator on integers without a scale means nothing."""
    types = {"x": TensorType((4,), DType.I8), "y": TensorType((4,), DType.F32)}
    made = Graph("g", ("x",), ("y",), types, {}, (Node("dequantize", ("x",), ("y",)),))
    assert "i8[4] is not quantised" in attempt(pack(made))


def test_every_truncation_is_refused() -> None:
    data = pack(small())
    assert all(attempt(data[:n]) != "loaded" for n in range(0, len(data), 7))


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_are_refused_or_load(seed: int) -> None:
    data, rng = pack(small()), random.Random(seed)
    answers = []
    for _ in range(250):
        broken = bytearray(data)
        bit = rng.randrange(8 * len(data))
        broken[bit // 8] ^= 1 << (bit % 8)
        answers.append(attempt(bytes(broken)))
    assert answers.count("loaded") < len(answers) / 4


@pytest.mark.parametrize("seed", range(4))
def test_bad_text_is_refused_or_compiles(seed: int) -> None:
    """Without checksums in the way: words and digits of graph.txt changed at random."""
    rng = random.Random(seed)
    target = load_target("cortex-m4")
    for _ in range(60):
        data = edited(lambda e: e.update({"graph.txt": mutated(e["graph.txt"], rng)}))
        if attempt(data) == "loaded":
            with contextlib.suppress(CompileError):
                driver.compile_graph(unpack(data, "model"), target, NO_SEARCH, model_hash="-")


def mutated(text: bytes, rng: random.Random) -> bytes:
    """One place changed, removed, doubled or swapped for a word of the format."""
    at = rng.randrange(len(text))
    end = min(len(text), at + rng.randrange(1, 12))
    words = [
        b"",
        text[at:end] * 2,
        b"9" * 30,
        b"-1",
        b"NaN",
        b"[0]",
        b"i16",
        b'"',
        b"const",
        b"\xff",
    ]
    return text[:at] + rng.choice(words) + text[end:]


def test_a_bomb_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(FIRST, b"{}")
        file.writestr("graph.txt", bytes(64 << 20))
    assert "far more than a model" in attempt(out.getvalue())


def test_an_array_that_claims_more_than_it_has_is_refused() -> None:
    def change(entries: dict[str, bytes]) -> None:
        entries["consts/000.npy"] = entries["consts/000.npy"].replace(b"(8, 3", b"(9999999, 3", 1)

    assert attempt(edited(change)) != "loaded"


def test_pickles_are_refused() -> None:
    def change(entries: dict[str, bytes]) -> None:
        out = io.BytesIO()
        np.save(out, np.array([{"a": 1}], object), allow_pickle=True)
        entries["consts/000.npy"] = out.getvalue()

    assert attempt(edited(change)) != "loaded"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/tmp/x", "consts/../../x", "other.txt"])
def test_paths_are_never_followed(name: str, tmp_path: Path) -> None:
    answer = attempt(edited(lambda e: e.update({name: b"x"})))
    assert answer == "loaded" if name.startswith("consts/") else "unknown entry" in answer


def test_an_entry_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = edited_twice()
    assert "stands there twice" in attempt(data)


def edited_twice() -> bytes:
    out = io.BytesIO(pack(small()))
    with zipfile.ZipFile(out, "a") as file:
        file.writestr("graph.txt", b"graph g(): return x")
    return out.getvalue()


def test_other_zips_are_no_midge_files(tmp_path: Path) -> None:
    out = io.BytesIO()
    np.savez(out, x=np.zeros(3))
    assert attempt(out.getvalue()) != "loaded"
    with pytest.raises(ModelError):
        parse(out.getvalue(), tmp_path / "x.midge", "x")


def test_the_format_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    model = driver.load(DIGITS)
    assert parse(pack(model), tmp_path / "model.bin", model.name) == model
