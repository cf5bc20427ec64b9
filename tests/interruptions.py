"""Something happens in place of one of the steps that change a disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest

STEPS = ("os.replace", "os.unlink", "os.mkdir", "os.rmdir", "io.open", "fcntl.flock")
Failure = Callable[[], None]


def interrupted(
    monkeypatch: pytest.MonkeyPatch, number: int, failure: Failure, steps: Sequence[str] = STEPS
) -> list[str]:
    """`failure` happens in place of step `number` that changes a disk; the steps that were done."""
    import fcntl
    import io

    places = {"os": os, "io": io, "fcntl": fcntl}
    done: list[str] = []

    def patched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "io.open" and "w" not in (*args[1:2], kwargs.get("mode", "")):
                return original(*args, **kwargs)
            if len(done) == number:
                done.append("failed")
                failure()
            done.append(name)
            return original(*args, **kwargs)

        return call

    for step in steps:
        module, _, function = step.partition(".")
        original = getattr(places[module], function)
        monkeypatch.setattr(places[module], function, patched(step, original))
    return done


def killed(work: Callable[[], None]) -> bool:
    """Whether `work`, in a copy of this process, was ended by `os._exit`."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
