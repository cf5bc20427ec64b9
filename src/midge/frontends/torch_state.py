"""What a PyTorch program leaves behind: values that were there before it and are not its outputs.

C that Midge writes keeps nothing between calls. A buffer that the program changes and that no
output depends on (a counter of batches) does not matter; every other change is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midge.core.errors import ModelError
from midge.frontends.torch_calls import Call
from midge.frontends.torch_views import Views

NO_STATE = "C of Midge keeps nothing between calls: make the state an input and an output"
_INPUT = "change a copy (x.clone()), and return what the caller shall see of it"
# Outputs of a decomposed program that are changes of what was there before it.
MUTATIONS = {
    "buffer_mutation": ("buffer", "buffer_name"),
    "parameter_mutation": ("parameter", "parameter_name"),
    "user_input_mutation": ("input", "user_input_name"),
}


@dataclass(frozen=True, slots=True)
class Given:
    """A value that is there before the program runs. kind: of the signature, e.g. buffer.
    title: its name in the module."""

    kind: str
    title: str


def given_of(signature: Mapping[str, Any]) -> dict[str, Given]:
    """What is there before the program runs, by the names of the values."""
    found = {}
    for spec in signature["input_specs"]:
        ((kind, own),) = spec.items()
        if kind == "user_input":
            if "as_tensor" in own["arg"]:
                name = own["arg"]["as_tensor"]["name"]
                found[name] = Given("input", name)
        elif f"{kind}_name" in own:
            found[own["arg"]["name"]] = Given(kind.replace("_", " "), own[f"{kind}_name"])
    return found


def reached(
    calls: Sequence[Call], outputs: Collection[str], by: Callable[[Call], Iterable[str]]
) -> set[str]:
    """The values that lead to outputs, themselves included. by: of a call those that count."""
    found = set(outputs)
    for call in reversed(calls):
        if found.intersection(call.outputs):
            found.update(by(call))
    return found


def check(
    model: str,
    signature: Mapping[str, Any],
    calls: Sequence[Call],
    outputs: Collection[str],
    views: Views,
) -> None:
    """ModelError for a change that somebody could see after the program has run."""
    needs = reached(calls, outputs, lambda call: call.read)
    given = given_of(signature)
    for value, by in (*views.changed.items(), *_written(signature, given)):
        if value not in given:
            continue
        own = given[value]
        if own.kind == "input":
            raise ModelError(
                f"changes its input {own.title!r} in place ({by})", where=model, hint=_INPUT
            )
        if value in needs:
            what = f"keeps state in {own.kind} {own.title!r}, which {by} changes"
            raise ModelError(what, where=model, hint=NO_STATE)


def _written(signature: Mapping[str, Any], given: Mapping[str, Given]) -> list[tuple[str, str]]:
    """The changes that a decomposed program names."""
    found = []
    for spec in signature["output_specs"]:
        ((kind, own),) = spec.items()
        if kind in MUTATIONS:
            of, key = MUTATIONS[kind]
            places = [value for value, g in given.items() if g == Given(of, own[key])]
            found += [(value, f"output {own['arg']['name']!r}") for value in places]
    return found
