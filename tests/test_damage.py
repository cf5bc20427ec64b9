"""Damaged files of every format and damaged caches are refused or read, as `benchmarks/damage.py`
does it, and each kind of damage that was taken for something else."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import onnx
import pytest

from conftest import NO_SEARCH, ROOT
from damaging.cases import FORMATS, case, kinds
from damaging.kept import PLACES
from damaging.sources import sampled
from damaging.trying import Stage, attempt
from midge import driver
from midge.core.errors import ModelError
from midge.core.types import DType, TensorType
from midge.graph.archive import pack, unpack
from midge.graph.ir import OPS, Graph, Sample
from midge.graph.text import print_graph
from midge.target import load_target

pytestmark = pytest.mark.slow

driver.load_operators()


@pytest.mark.parametrize(
    ("forms", "cases"), [(("tflite", "onnx", "pt2", "midge"), 10), (PLACES, 6)], ids=str
)
def test_what_is_damaged_is_refused_or_read(forms: tuple[str, ...], cases: int) -> None:
    script = str(ROOT / "benchmarks" / "damage.py")
    words = [sys.executable, script, "--jobs", "1", "--cases", str(cases), *forms]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{cases * len(forms)} cases" in done.stdout


@pytest.mark.parametrize("form", FORMATS)
def test_cases_are_the_same_in_every_run(form: str) -> None:
    made = [case(form, number) for number in range(20)]
    assert made == [case(form, number) for number in range(20)]
    assert made != [case(form, number, seed=1) for number in range(20)]
    assert Counter(c.structured for c in made) == {False: 10, True: 10}
    assert all(c.kind in kinds(form) for c in made if c.structured)


@pytest.mark.parametrize("form", FORMATS)
def test_half_of_the_containers_are_whole(form: str) -> None:
    for number in range(1, 40, 2):
        data = case(form, number).data
        if form == "tflite":
            assert data[4:8] == b"TFL3"
        elif form == "onnx":
            assert onnx.ModelProto.FromString(data).HasField("graph")
        else:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                assert file.testzip() is None


def test_what_hides_that_memory_ran_out_is_a_fault() -> None:
    def work(stage: Stage) -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ModelError("the file is damaged", where="x") from error

    assert attempt(work).verdict == "memory"
    assert attempt(lambda stage: None).verdict == "accepted"

    def fails(stage: Stage) -> None:
        raise KeyError("x")

    assert attempt(fails).verdict == "internal"


# Numbers and indices in .midge files that no operator can compute with.

LIMITED = [
    ("affine", "shift", 32), ("affine", "nudge", 2**31), ("avg_pool2d", "scale", float("nan")),
    ("avg_pool2d", "zero", 128), ("clip", "low", 2**63), ("clip", "high", float("nan")),
    ("conv2d", "x_zero", 128), ("conv2d", "pad_value", float("inf")), ("dense", "x_zero", -129),
    ("elu", "alpha", float("nan")), ("hard_sigmoid", "beta", 1e300), ("interpolate", "zero", 2**31),
    ("leaky_relu", "alpha", 1e300), ("log_softmax_q", "shift", 2**31), ("matmul", "b_zero", 2**31),
    ("pad", "value", 300), ("quantize", "scale", 0.0), ("quantize", "zero", 2**31),
    ("requantize", "zero_out", 2**31), ("requantize_real", "low", 2**63),
    ("rescale", "zero_out", 2**28), ("resize_bilinear", "align_corners", -1),
    ("resize_nearest", "half_pixel", 2), ("scale", "up", 300), ("scale", "down", -1),
    ("select_sign", "zero", 2**31), ("shrink", "lambd", float("nan")),
    ("sigmoid_lut", "shift", 32), ("softmax", "beta", 1e300), ("softmax_lut", "multiplier", 2**31),
    ("swish", "alpha", float("nan")), ("tree_ensemble", "depth", 0),
    ("tree_ensemble", "depth", 2**28),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attribute", "value"), LIMITED)
def test_numbers_that_nothing_can_be_computed_with_are_refused(
    op: str, attribute: str, value: float
) -> None:
    """Of one of the element types at least."""
    refused = []
    for sample in OPS[op].samples:
        if attribute in sample.attrs:
            assert unpack(pack(sampled(op, sample)), "x").nodes[0].attrs == sample.attrs
            try:
                unpack(with_attribute(sampled(op, sample), attribute, value), "x")
            except ModelError as error:
                refused.append(error.what)
    assert refused
    assert all(re.search(rf"{attribute}|longest way", what) for what in refused)


def with_attribute(graph: Graph, name: str, value: float) -> bytes:
    """The file of a graph, in which an attribute of its only node has another value."""
    (old,) = re.findall(rf"\b{name}=[^,)]+", print_graph(graph).rpartition(" @ ")[0])
    return with_text(pack(graph), old, f"{name}={json.dumps(value)}")


def with_text(data: bytes, old: str, new: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as file, zipfile.ZipFile(out, "w") as again:
        for name in file.namelist():
            content = file.read(name)
            if name.endswith(".txt"):
                assert content.count(old.encode()) == 1
                content = content.replace(old.encode(), new.encode())
            again.writestr(name, content)
    return out.getvalue()


def test_corners_are_aligned_or_pixels_have_centres() -> None:
    sample = next(s for s in OPS["resize_bilinear"].samples if s.attrs["half_pixel"])
    data = with_attribute(sampled("resize_bilinear", sample), "align_corners", 1)
    with pytest.raises(ModelError, match="exclude each other"):
        unpack(data, "x")


TABLES = [
    ("tree_ensemble", 2, [0, 0], -1, "features"), ("tree_ensemble", 2, [0, 0], 3, "features"),
    ("tree_ensemble", 2, [1, 1], -4, "splits go"), ("tree_ensemble", 2, [1, 1], 4, "or back"),
    ("tree_ensemble", 2, [2, 2], 0, "or back"), ("tree_ensemble", 3, [0], 4, "roots"),
    ("tree_ensemble", 3, [0], -4, "roots"), ("tree_ensemble", 4, [0, 0], 99, "targets"),
    ("tree_ensemble", 4, [0, 0], -1, "targets"), ("interpolate", 1, [0, 0], -1, "rows"),
    ("interpolate", 1, [0, 1], 99, "rows"), ("interpolate", 3, [0, 1], 99, "columns"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "position", "at", "value", "words"), TABLES)
def test_indices_of_what_is_not_there_are_refused(
    op: str, position: int, at: Sequence[int], value: int, words: str
) -> None:
    sample = OPS[op].samples[0]
    table = sample.consts[position].copy()
    table[tuple(at)] = value
    changed = replace(sample, consts={**sample.consts, position: table})
    with pytest.raises(ModelError, match=words):
        unpack(pack(sampled(op, changed)), "x")
    free = replace(sample, consts={i: a for i, a in sample.consts.items() if i != position})
    with pytest.raises(ModelError, match="computed at run time"):
        unpack(pack(sampled(op, free)), "x")


def test_a_damaged_header_of_an_array_is_refused() -> None:
    data = pack(sampled("interpolate", OPS["interpolate"].samples[0]))
    assert data.count(b"'fortran_order': False, ") >= 1
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as file, zipfile.ZipFile(out, "w") as again:
        for name in file.namelist():
            again.writestr(name, file.read(name).replace(b"'shape': (", b"'shape': (("))
    with pytest.raises(ModelError, match="damaged"):
        unpack(out.getvalue(), "x")


def test_limits_of_floats_are_rounded() -> None:
    """2147483647 is no value of binary32."""
    sample = Sample((TensorType((3,), DType.F32),), {"low": 2147483647, "high": math.inf})
    driver.compile_graph(sampled("clip", sample), load_target("cortex-m4"), NO_SEARCH)
    beta = replace(OPS["softmax"].samples[0], attrs={"beta": 2147483647})
    driver.compile_graph(sampled("softmax", beta), load_target("cortex-m4"), NO_SEARCH)
