"""Compilations that several tests of the command line ask for alike, made once in a process.

    pytestmark = pytest.mark.usefixtures("compiled_once")

For tests of what is done with a compiled model. That the same input gives the same bytes, also the
second time, is what tests/test_determinism.py compares, without this.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from midge.core.cache import ENVIRONMENT_VARIABLE
from midge.driver import Compiled
from midge.graph.ir import OPS

_KEPT: dict[bytes, tuple[Compiled, list[warnings.WarningMessage]]] = {}


def once(compile_graph: Callable[..., Compiled]) -> Callable[..., Compiled]:
    """`compile_graph`, which warns again but does nothing else again for equal arguments, the same
    operators and the same cache. What it raises it raises each time."""

    @wraps(compile_graph)
    def kept(*args: Any, **named: Any) -> Compiled:
        operators = tuple(map(id, OPS._items.values()))  # a test may put another one in the place
        cache = os.environ.get(ENVIRONMENT_VARIABLE)
        counts = sorted((n, v) for n, v in named.items() if n != "progress")
        key = pickle.dumps((args, counts, operators, cache))
        if key not in _KEPT:
            with warnings.catch_warnings(record=True) as came:
                warnings.simplefilter("always")
                made = compile_graph(*args, **named)
            _KEPT[key] = (made, came)
        made, came = _KEPT[key]
        for warning in came:
            warnings.warn(warning.message, stacklevel=2)
        return made

    return kept
