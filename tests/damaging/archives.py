"""Zip files of JSON, text and arrays (.pt2, .keras, .midge), packed again after one change."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from damaging.bytewise import Damage
from damaging.values import content, integer, listed, real

Entries = dict[str, bytes]
Place = tuple[Any, Any]  # a list or an object, and where in it

# The keys under which stands what a kind of change is about.
_TORCH = {
    "shape": ("sizes", "strides", "storage_offset"),
    "type": ("dtype", "kind", "layout", "as_scalar_type", "use_pickle"),
    "index": ("name", "path_name", "parameter_name", "buffer_name"),
    "option": ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_string", "as_scalar"),
    "operator": ("target",),
}
_KERAS = {
    "shape": ("batch_shape", "shape", "kernel_size", "pool_size", "strides", "build_config"),
    "type": ("dtype", "class_name", "module", "registered_name", "activation"),
    "option": ("units", "filters", "groups", "padding", "data_format", "config", "name"),
}
_KEYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"pt2": _TORCH, "keras": _KERAS}
_ANY = ("count", "missing", "nesting", "entries")
_MIDGE = ("shape", "scale", "index", "option", "operator", "type", "data", "header")


def kinds(form: str) -> tuple[str, ...]:
    """The kinds of changes that a format knows."""
    if form == "midge":
        return (*_MIDGE, *_ANY)
    return (*_KEYS[form], "data", *_ANY)


def damaged(rng: random.Random, form: str, kind: str, data: bytes) -> bytes | None:
    """The file with one change of that kind; None if there is no place for it."""
    entries = _unpacked(data)
    if kind == "entries":
        _exchange(rng, entries)
    elif kind == "data":
        _change_data(rng, entries)
    elif form == "midge" and kind in _MIDGE:
        _change_text(rng, kind, entries)
    else:
        _change_json(rng, form, kind, entries)
    return _packed(entries)


def damaged_inside(rng: random.Random, damage: Damage, data: bytes) -> bytes:
    """The file with the bytes of one entry damaged, packed again: checksums are right."""
    entries = _unpacked(data)
    name = rng.choice([n for n in entries if entries[n]])
    other = rng.choice([content for content in entries.values() if content])
    entries[name] = damage(rng, entries[name], other)
    return _packed(entries)


def _unpacked(data: bytes) -> Entries:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _packed(entries: Entries) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return out.getvalue()


def _exchange(rng: random.Random, entries: Entries) -> None:
    """Entries lost, emptied, in another's place or not what they are called."""
    name, other = rng.choice(list(entries)), rng.choice(list(entries))
    way = rng.randrange(4)
    if way == 0:
        del entries[name]
    elif way == 1:
        entries[name] = rng.choice(
            (b"", b"{}", b"[]", b"null", b"1", b'"x"', b"[" * 99999, b"\xff")
        )
    elif way == 2:
        entries[name], entries[other] = entries[other], entries[name]
    else:
        entries[f"{name}x"] = entries.pop(name)


def _change_data(rng: random.Random, entries: Entries) -> None:
    """The bytes of a weight."""
    names = [n for n in entries if not n.endswith((".json", ".txt", "version", "byteorder"))]
    name = rng.choice(names or list(entries))
    entries[name] = content(rng, entries[name])


# JSON.


def _change_json(rng: random.Random, form: str, kind: str, entries: Entries) -> None:
    names = [n for n in entries if n.endswith(".json")]
    # The one with the program is by far the largest, and most of what is read stands there.
    name = max(names, key=lambda n: len(entries[n])) if rng.random() < 0.75 else rng.choice(names)
    tree = json.loads(entries[name])
    places = [p for p in _places(tree) if _fits(p, form, kind)]
    if not places:
        return
    owner, key = rng.choice(places)
    if kind == "missing":
        del owner[key]
    elif kind == "count":
        owner[key] = _counted(rng, owner[key])
    elif kind == "nesting":
        owner[key] = _nested(rng, owner[key])
    else:
        owner[key] = _other(rng, tree, owner[key])
    entries[name] = json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[Place]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def _fits(place: Place, form: str, kind: str) -> bool:
    owner, key = place
    if kind == "missing":
        return isinstance(owner, dict)
    if kind == "count":
        return isinstance(owner[key], list | dict)
    return kind == "nesting" or key in _KEYS[form][kind]


def _counted(rng: random.Random, old: Any) -> Any:
    if isinstance(old, list):
        return listed(rng, old)
    return rng.choice(({}, {**old, "x": 1}, dict(list(old.items())[:1]), [*old.values()]))


def _nested(rng: random.Random, old: Any) -> Any:
    deep: Any = old
    for _ in range(rng.choice((1, 2, 500))):
        deep = [deep] if rng.random() < 0.5 else {"as_int": deep}
    return rng.choice((deep, [old], {"x": old}, None, "x", 3, 1.5, True, [], {}, str(old)[:50]))


def _other(rng: random.Random, tree: Any, old: Any) -> Any:
    """Another value of the same kind; somewhere inside of a list or an object."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return integer(rng, old)
    if isinstance(old, float):
        return rng.choice((real(rng, old), "Infinity", "NaN"))
    if isinstance(old, str):
        words = sorted({o[k] for o, k in _places(tree) if isinstance(o[k], str) and len(o[k]) < 60})
        return rng.choice((*words, "", "nowhere", "../x", "ü\n"))
    if isinstance(old, dict | list) and old:
        inside = [*_places(old)]
        owner, key = rng.choice(
            [p for p in inside if not isinstance(p[0][p[1]], dict | list)] or inside
        )
        owner[key] = _other(rng, tree, owner[key])
        return old
    return rng.choice((0, 1, "x", [], {}, [1]))


# The text of .midge files.

_TEXT, _HEAD = "graph.txt", "format.json"
_PATTERNS = {
    "shape": r"(?<=[\[x])\d+(?=[\]x])",
    "scale": r"(?<=[{ ;,])-?[0-9.][0-9.e+-]*(?=[ ;,}])",
    "index": r"(?<=[(,] )[a-zA-Z_\"][^=:,()]*(?=[,)])|(?<=\()[a-zA-Z_\"][^=:,()]*(?=[,)])",
    "option": r"(?<==)(-?[0-9.]+|\([^)]*\)|\"[^\"]*\")",
    "operator": r"(?<= = )[a-z_0-9]+(?=\()",
    "type": r"\b(f32|f16|i8|u8|i16|i32|i64|bool)(?=\[)",
}


def _change_text(rng: random.Random, kind: str, entries: Entries) -> None:
    if kind == "header":
        return _change_header(rng, entries)
    text = entries[_TEXT].decode()
    places = [*re.finditer(_PATTERNS[kind], text)]
    if not places:
        return None
    place = rng.choice(places)
    old = place.group()
    made = _WORDS[kind](rng, text, old)
    entries[_TEXT] = (text[: place.start()] + made + text[place.end() :]).encode()
    return None


def _change_header(rng: random.Random, entries: Entries) -> None:
    """The version, the constants' names, or an array's type and shape."""
    arrays = [n for n in entries if n.endswith(".npy")]
    if not arrays or rng.random() < 0.4:
        head = json.loads(entries[_HEAD])
        key = rng.choice(sorted(head))
        head[key] = rng.choice((0, -1, 2**70, "x", None, [], ["x"], {}, 1.5, head[key] * 2))
        entries[_HEAD] = json.dumps(head).encode()
        return
    name = rng.choice(arrays)
    data = entries[name]
    size = 10 + int.from_bytes(data[8:10], "little")
    header = data[10:size].decode("latin-1")
    old, made = rng.choice(
        (("'<f4'", "'<f8'"), ("'<f4'", "'|O'"), ("'<i4'", "'<u4'"), ("'|i1'", "'|u1'"),
         ("False", "True"), ("(", "(0, "), ("(", "(-1, "), ("(", "(2147483648, "), ("'<", "'>"),
         ("(", "(1, "), ("{", "[" * 40), ("'shape'", "'form'"))
    )  # fmt: skip
    entries[name] = data[:10] + header.replace(old, made, 1)[: len(header)].encode() + data[size:]


def _shape_word(rng: random.Random, text: str, old: str) -> str:
    extra = rng.choice(("", "", "", "x1", "x2"))
    return f"{integer(rng, int(old))}{extra}"


def _scale_word(rng: random.Random, text: str, old: str) -> str:
    if re.fullmatch(r"-?\d+", old):
        return str(integer(rng, int(old)))
    return rng.choice((json.dumps(real(rng, 0.1)), f"{old} {old}", "", "1e999", "-1e-400"))


def _index_word(rng: random.Random, text: str, old: str) -> str:
    names = sorted(set(re.findall(_PATTERNS["index"], text)) - {old})
    plain = [n for n in names if isinstance(n, str)]
    return rng.choice((*plain, "nowhere", '""', f"{old}, {old}", ""))


def _option_word(rng: random.Random, text: str, old: str) -> str:
    if old.startswith("("):
        parts = old[1:-1].split()
        if rng.random() < 0.4:
            parts = listed(rng, parts)
        at = rng.randrange(len(parts)) if parts else 0
        if parts and rng.random() < 0.8:
            parts[at] = str(integer(rng, 2))
        return f"({' '.join(map(str, parts))})"
    if old.startswith('"'):
        return rng.choice(('""', '"x"', '"relu"', '"\\u0000"', "1"))
    return rng.choice(
        (str(integer(rng, 1)), json.dumps(real(rng, 0.5)), "NaN", "-Infinity", "()", '"x"')
    )


def _operator_word(rng: random.Random, text: str, old: str) -> str:
    return rng.choice((*sorted(set(re.findall(_PATTERNS["operator"], text))), "nothing", "conv2d",
                       "dense", "reshape", "softmax", "lstm", "copy"))  # fmt: skip


def _type_word(rng: random.Random, text: str, old: str) -> str:
    return rng.choice([t for t in "f32 f16 i8 u8 i16 i32 i64 bool x".split() if t != old])


_WORDS: dict[str, Callable[[random.Random, str, str], str]] = {
    "shape": _shape_word, "scale": _scale_word, "index": _index_word, "option": _option_word,
    "operator": _operator_word, "type": _type_word,
}  # fmt: skip
