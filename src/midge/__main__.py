"""`python -m midge` is the command `midge`."""

from __future__ import annotations

from midge.cli import main

if __name__ == "__main__":
    main()
