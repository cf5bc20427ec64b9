"""The order of tests, and which of them one worker runs (tests/conftest.py)."""

from __future__ import annotations

import pytest

FIRST, THEN = "test_offers", "test_every_way_leaves_the_same_bytes"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a layer is offered, then what each of it leaves: all ways to compute it, which both look
    at, take longer to find than to look at. The tests of every other file stay together: what they
    share (fixtures, compiled models) is made once, and not by each worker."""
    offered = {_case(item) for item in items if _name(item) == FIRST}
    later = {_case(item): item for item in items if _name(item) == THEN and _case(item) in offered}
    ordered: list[pytest.Item] = []
    for item in items:
        if later.get(_case(item)) is not item:
            ordered.append(item)
        if _name(item) == FIRST and _case(item) in later:
            ordered.append(later[_case(item)])
    items[:] = ordered
    for item in items:
        if _name(item) not in (FIRST, THEN):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


def _name(item: pytest.Item) -> str:
    return item.name.partition("[")[0]


def _case(item: pytest.Item) -> str:
    return item.name.partition("[")[2]
