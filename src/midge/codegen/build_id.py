"""Files of one package know each other: those of two builds do not compile together.

Each header says of which build it is, and each source that includes it refuses another one. Runtime
headers carry a number made of their own contents instead: packages by one Midge share them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from midge.core.seal import METADATA, hash_of, hash_of_parts, sealed, text_of
from midge.runtime import header

# Stands for the number of the build until all texts are known, of which it is made.
MARK = "@BUILD@"
_DIGITS = 16
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def with_build_id(
    files: Mapping[str, str], metadata: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, Any]]:
    """The files with the number of the build in the place of each mark, metadata.json behind them,
    and what that says. The number is made of all that compilers see."""
    build = hash_of_parts(_seen(files))[:_DIGITS]
    marked = {name: text.replace(MARK, build) for name, text in files.items()}
    closed = sealed({**metadata, "build": build}, marked)
    return {**marked, METADATA: text_of(closed)}, closed


def _seen(files: Mapping[str, str]) -> Iterator[str]:
    """What compilers see, in parts: names, and behind each a C file without its comments, in which
    the hash of the model file stands."""
    for number, name in enumerate(sorted(files)):
        yield f"\0{name}\0" if number else f"{name}\0"
        if name.endswith((".c", ".h")):
            yield from _without_comments(files[name])


def _without_comments(text: str) -> Iterator[str]:
    start = 0
    for comment in _COMMENT.finditer(text):
        yield text[start : comment.start()]
        start = comment.end()
    yield text[start:]


def runtime_header(name: str) -> str:
    """The text of a runtime header with its number."""
    text, _, guard = header(name).rpartition("#endif")
    number = f"#define {_macro(name)} {_number(name)} /* made of the contents of this file */"
    return f"{text}{number}\n\n#endif{guard}"


def runtime_checks(names: Iterable[str]) -> list[dict[str, str]]:
    """The macro and number of each runtime header."""
    return [{"macro": _macro(name), "number": _number(name)} for name in names]


def _macro(name: str) -> str:
    return f"{name.removesuffix('.h').upper()}_BUILD"


def _number(name: str) -> str:
    return f"0x{hash_of(header(name))[:_DIGITS]}U"
