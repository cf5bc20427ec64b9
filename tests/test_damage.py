"""Damaged files of every format and damaged caches are refused or read, as `benchmarks/damage.py`
does it, and each kind of damage that was taken for something else."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections import Counter

import onnx
import pytest

from conftest import ROOT
from damaging.cases import FORMATS, case, kinds
from damaging.kept import PLACES
from damaging.trying import Stage, attempt
from midge.core.errors import ModelError


@pytest.mark.parametrize(
    ("forms", "cases"), [(("tflite", "onnx", "pt2", "midge"), 24), (PLACES, 12)], ids=str
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
