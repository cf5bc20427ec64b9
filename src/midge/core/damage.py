"""What is wrong with a file that nobody can read, in our words.

Readers (NumPy's, zip's, JSON's, protobuf's, and ours) raise whatever they like, with texts for
their own programmers. Users are told what that means for the file; `--debug` shows the rest.
"""

from __future__ import annotations

import struct
import zipfile
import zlib


class DamageError(ValueError):
    """Says in words for the file's owner what is wrong with it."""


_MEANINGS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (zipfile.BadZipFile, "it is no whole zip archive"),
    ((zlib.error, NotImplementedError), "what it packs cannot be unpacked"),
    (UnicodeError, "text in it is not UTF-8"),
    ((struct.error, EOFError), "it ends in the middle of something"),
    (MemoryError, "it asks for more memory than there is"),
    (RecursionError, "things in it lie inside each other without end"),
    (SyntaxError, "text in it cannot be parsed"),
    ((LookupError, AttributeError), "something that it refers to is not there"),
    ((ValueError, TypeError, ArithmeticError), "a size, a number or a type in it makes no sense"),
)


def damage(error: BaseException) -> str:
    """What an exception of a reader says of the file."""
    if isinstance(error, DamageError):
        return str(error)
    found = (words for kinds, words in _MEANINGS if isinstance(error, kinds))
    return next(found, "it makes no sense to what reads it")
