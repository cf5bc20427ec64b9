"""PyTorch programs that change what outlives a call: refused, but for what no output depends on."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
import pytest

import midge
from midge import driver
from midge.core.errors import ModelError
from midge.frontends.torch import read
from midge.frontends.torch_calls import Call
from midge.frontends.torch_views import Views
from midge.graph.evaluate import evaluate
from midge.graph.importers import IMPORTERS
from torch_cases import Case, stored
from torch_state_cases import STORED

driver.load_operators()
CASES = {case.name: case for case in stored(STORED)}
REFUSED = {
    "average": "keeps state in buffer 's'",
    "assigned": "keeps state in buffer 's'",
    "added": "keeps state in buffer 's'",
    "late": "keeps state in buffer 's'",
    "part": "keeps state in buffer 's'",
    "viewed": "keeps state in buffer 's'",
    "indexed": "keeps state in buffer 's'",
    "out": r"keeps state in buffer 's'|aten\.mul\.out writes its result into an argument",
    "constant": "keeps state in tensor constant 'plain'",
    "parameter": r"keeps state in parameter 'weight'|wrap_with_set_grad_enabled is not supported",
    "given": "changes its input 'x' in place",
    "given_late": "changes its input 'x' in place",
}
ACCEPTED = ("counted", "watched", "overwritten", "fresh")
REASON = "pip install '.[torch]'"


def own(name: str) -> list[Case]:
    return [c for c in CASES.values() if c.name.removesuffix("_core") == name]


@pytest.mark.parametrize("name", REFUSED)
def test_state_is_refused(name: str) -> None:
    """In the dialect of torch.export and taken apart into core operators."""
    assert own(name)
    for case in own(name):
        with pytest.raises(ModelError, match=REFUSED[name]) as error:
            read(case.program, "g")
        assert error.value.hint


@pytest.mark.parametrize("name", ACCEPTED)
def test_changes_that_no_output_depends_on_do_not_matter(name: str) -> None:
    """The third call of PyTorch's is as the first; operators of the counter need not be known."""
    assert len(own(name)) == 2
    for case in own(name):
        graph = read(case.program, "g")
        (found,) = evaluate(graph, {graph.inputs[0]: case.x}).values()
        np.testing.assert_allclose(found, case.outputs[0], rtol=1e-6)


def test_every_stored_case_is_judged() -> None:
    assert {c.removesuffix("_core") for c in CASES} == {*REFUSED, *ACCEPTED}


def call(kind: str, *values: str, outputs: str = "y", **flags: bool) -> Call:
    names = ("self", "other") if "norm" not in kind else ("input", "running_mean")
    tensors = tuple(zip(names, values, strict=False))
    return Call(f"aten.{kind}", tensors, tuple(outputs.split()), flags, "node 0")


def test_what_operators_change() -> None:
    assert call("add_.Tensor", "a", "b").changed == ("a",)
    assert call("__iand__.Tensor", "a", "b").changed == ("a",)
    assert call("__and__.Tensor", "a", "b").changed == ()
    assert call("detach_.default", "a").changed == ()
    assert call("instance_norm.default", "x", "m", use_input_stats=True).changed == ("m",)
    assert call("instance_norm.default", "x", "m", use_input_stats=False).changed == ()
    assert call("copy_.default", "a", "b").changed == ("a",)
    assert call("copy_.default", "a", "b").read == ("b",)
    assert call("add_.Tensor", "a", "b").read == ("a", "b")
    assert call("zeros_like.default", "a").read == ()
    with pytest.raises(ModelError, match="writes its result"):
        call("max.dim_max", "a").check()
    call("max.dim", "a").check()


def test_changes_of_views_reach_what_they_are_views_of() -> None:
    views = Views()
    views.operator(call("moveaxis.int", "s", outputs="v"))
    views.operator(call("add_.Tensor", "v", outputs="r"))
    assert views.changed == {"s": "node 0"}


@pytest.mark.parametrize(("kind", "same"), [("to.dtype", True), ("to.dtype", False)])
def test_conversions_to_another_type_are_copies(kind: str, *, same: bool) -> None:
    types: dict[str, Any] = {"s": {"dtype": 7}, "v": {"dtype": 7 if same else 1}}
    views = Views(types)
    views.operator(call(kind, "s", outputs="v"))
    views.operator(call("add_.Tensor", "v", outputs="r"))
    assert ("s" in views.changed) is same


def test_no_paths_of_the_machine_are_stored() -> None:
    with zipfile.ZipFile(STORED) as file:
        for name in file.namelist():
            assert b"stack_trace" not in file.read(name)


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own
def test_what_pytorchs_schemas_say_of_changes_and_views() -> None:
    """Of every ATen operator that Midge reads: what it writes and what shares its memory."""
    torch = pytest.importorskip("torch", reason=REASON)
    known = {kind.split(".")[1] for kind in IMPORTERS["torch"] if kind.startswith("aten.")}
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.removeprefix("aten::").partition(".")
        base = name.removesuffix("_")
        if not full.startswith("aten::") or not {name, base, f"{base}_"} & known:
            continue
        schema = torch._C._get_schema(f"aten::{name}", overload)
        _check_schema(name, overload, schema)


def _check_schema(name: str, overload: str, schema: Any) -> None:
    tensors = [a for a in schema.arguments if "Tensor" in str(a.type)]
    pairs = tuple((a.name, a.name) for a in tensors)
    flags = {"training": True, "use_input_stats": True}
    own = Call(f"aten.{name}.{overload or 'default'}", pairs, ("y",), flags, "node 0")
    written = [a.name for a in tensors if a.alias_info is not None and a.alias_info.is_write]
    try:
        own.check()
    except ModelError:
        assert written, f"{name}.{overload} writes nothing"
        return
    silent = {"dropout_", "feature_dropout_", "detach_"}
    hidden = {"batch_norm", "native_batch_norm", "instance_norm"}
    if name not in silent | hidden:
        assert list(own.changed) == written, f"{name}.{overload}"
    views = Views()
    views.operator(own)
    if tensors and any(r.alias_info is not None for r in schema.returns):
        assert views.base.get("y") == tensors[0].name, f"{name}.{overload} is a view"


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own
def test_modules_with_state() -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    from torch_state_cases import modules

    x = torch.tensor([[0.5, -1.0, 2.0, 3.0]])
    for name, module in modules():
        if name in ACCEPTED:
            midge.from_torch(module, (x,))
            continue
        with pytest.raises(ModelError, match=r"keeps state|in place"):
            midge.from_torch(module, (x,))


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own
def test_attributes_that_are_no_buffers() -> None:
    """The export forgets what is assigned to them, and warns only."""
    torch = pytest.importorskip("torch", reason=REASON)

    class Attribute(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self, *, listed: bool, read: bool) -> None:
            super().__init__()
            self.listed, self.read = listed, read
            self.old, self.all = torch.ones(1, 4), [torch.ones(1, 4)]

        def forward(self, x: Any) -> Any:
            y = x * 2
            if self.read:
                y = y + (self.all[0] if self.listed else self.old)
            if self.listed:
                self.all[0] = y
            else:
                self.old = y
            return y * 1

    x = torch.ones(1, 4)
    for listed in (False, True):
        with pytest.raises(ModelError, match=r"keeps state in self\.(old|all\[0\])"):
            midge.from_torch(Attribute(listed=listed, read=True), (x,))
        midge.from_torch(Attribute(listed=listed, read=False), (x,))
