"""Which Midge this is."""

from __future__ import annotations

from functools import cache
from importlib import metadata

UNKNOWN = "0+unknown"


@cache
def version() -> str:
    """The version that is installed, e.g. "0.1.0"; UNKNOWN for sources that nobody installed."""
    try:
        return metadata.version("midge")
    except metadata.PackageNotFoundError:
        return UNKNOWN
