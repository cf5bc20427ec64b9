"""A target's TOML text -> Target, with every mistake in it an error that says where it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, cast

from midge.core.errors import TargetError
from midge.core.sizes import SIZES, size_in
from midge.core.target import Memory, Target

# What kernels may ask for. div: a divide instruction. mul64: 32 x 32 -> 64 bit products.
# unaligned: loads and stores of words at any address. dsp: Arm's 16-bit SIMD. fpu: single
# precision. fpu64: double precision. fp16: half precision. mve, mve-float: Helium. zba, zbb, rvv,
# rvp: RISC-V extensions (rvp: packed SIMD). few-registers: most instructions reach only eight.
# int-16-bit: the compiler's int has 16 bits.
FEATURES = frozenset(
    {"div", "mul64", "unaligned", "dsp", "fpu", "fpu64", "fp16", "mve", "mve-float"}
    | {"zba", "zbb", "rvv", "rvp", "few-registers", "int-16-bit"}
)
ARCHS = ("arm", "riscv", "host")
_KEYS = (
    "name",
    "description",
    "arch",
    "cpu",
    "features",
    "memories",
    "toolchains",
    "emulator",
    "qemu",
)
_REQUIRED = ("name", "description", "arch", "cpu")
_MEMORY_KEYS = ("name", "kind", "start", "size")
_EMULATOR_KEYS = ("model", "cycles")
_QEMU_TEXTS = ("system", "machine", "cpu")
_QEMU_NUMBERS = ("flash_start", "flash_size", "ram_start", "ram_size")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_ADDRESS_SPACE = 1 << 32


def read_table(text: str, where: str) -> dict[str, Any]:
    """TOML text as a table; TargetError when it is not TOML."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits
        raise TargetError(f"is not TOML: {error}", where=where) from error


def parse_target(table: Mapping[str, Any], where: str) -> Target:
    """The target that `table` describes; TargetError names the key that is wrong."""
    _check_keys(table, _KEYS, where)
    for key in _REQUIRED:
        if key not in table:
            hint = f'{", ".join(_REQUIRED)} are required; base = "cortex-m4" gives all but the name'
            raise TargetError(f'misses "{key}"', where=where, hint=hint)
    texts = {key: _text(table[key], f"{where}: {key}") for key in _REQUIRED}
    if not _NAME.fullmatch(texts["name"]):
        raise TargetError(
            f"{texts['name']!r} is not a target name",
            where=f"{where}: name",
            hint="lower-case letters, digits and - _ .",
        )
    arch = _one_of(texts["arch"], ARCHS, f"{where}: arch")
    memories = _memories(table.get("memories", []), f"{where}: memories")
    if arch != "host":
        _require_memories(memories, where)
    return Target(
        name=texts["name"],
        description=texts["description"],
        arch=cast(Any, arch),
        cpu=texts["cpu"],
        features=_features(table.get("features", []), f"{where}: features"),
        memories=memories,
        toolchains=_toolchains(table.get("toolchains", {}), f"{where}: toolchains"),
        emulator=_emulator(table.get("emulator", {}), f"{where}: emulator"),
        qemu=_qemu(table.get("qemu", {}), f"{where}: qemu"),
    )


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known)}"
            raise TargetError(f'unknown key "{key}"', where=where, hint=hint)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise TargetError(f"expected text, got {value!r}", where=where)
    return value


def _one_of(value: object, known: tuple[str, ...], where: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise TargetError(f"{value!r} is not one of {', '.join(known)}", where=where)
    return value


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TargetError(f"expected a table, got {value!r}", where=where)
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise TargetError(f"expected a list, got {value!r}", where=where)
    return value


def _number(value: object, where: str) -> int:
    """Bytes or an address: a number, or a size as text, such as "256K" and "1M"."""
    if isinstance(value, str):
        try:
            value = size_in(value)
        except ValueError as error:
            what = f'expected a number or "256K", got {value!r}, which {error}'
            raise TargetError(what, where=where, hint=SIZES) from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TargetError(f'expected a number or "256K", got {value!r}', where=where)
    if not 0 <= value <= _ADDRESS_SPACE:
        raise TargetError(f"{value} is outside 32 bits", where=where)
    return value


def _address(value: object, where: str) -> int:
    """A number, or text as data sheets have it, such as "0x20000000"."""
    if isinstance(value, str) and re.fullmatch("0[xX][0-9a-fA-F]{1,8}", value):
        return int(value, 16)
    return _number(value, where)


def _features(value: object, where: str) -> frozenset[str]:
    features = [_text(item, where) for item in _list(value, where)]
    for feature in features:
        if feature not in FEATURES:
            known = ", ".join(sorted(FEATURES))
            raise TargetError(f"unknown feature {feature!r}", where=where, hint=f"known: {known}")
    return frozenset(features)


def _memories(value: object, where: str) -> tuple[Memory, ...]:
    items = enumerate(_list(value, where))
    memories = tuple(_memory(item, f"{where}[{index}]") for index, item in items)
    names = [memory.name for memory in memories]
    for name in names:
        if names.count(name) > 1:
            raise TargetError(f"two memories are called {name!r}", where=where)
    for low, high in pairwise(sorted(memories, key=lambda memory: memory.start)):
        if low.start + low.size > high.start:
            raise TargetError(f"{low.name} and {high.name} overlap", where=where)
    return memories


def _memory(value: object, where: str) -> Memory:
    table = _table(value, where)
    _check_keys(table, (*_MEMORY_KEYS, "cost", "typical"), where)
    for key in _MEMORY_KEYS:
        if key not in table:
            hint = 'e.g. name = "sram", kind = "ram", start = 0x20000000, size = "20K"'
            raise TargetError(f'misses "{key}"', where=where, hint=hint)
    start = _address(table["start"], f"{where}.start")
    size = _number(table["size"], f"{where}.size")
    if size == 0 or start + size > _ADDRESS_SPACE:
        raise TargetError("is empty, or ends outside 32 bits", where=f"{where}.size")
    kind = _one_of(table["kind"], ("ram", "flash"), f"{where}.kind")
    cost = table.get("cost", 1.0)
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 < cost < 1e6:
        raise TargetError("is no cost of an access", where=f"{where}.cost", hint="e.g. 1 or 2.5")
    typical = table.get("typical", False)
    if not isinstance(typical, bool):
        raise TargetError("is true or false", where=f"{where}.typical")
    name = _text(table["name"], f"{where}.name")
    return Memory(name, cast(Any, kind), start, size, float(cost), typical)


def _require_memories(memories: tuple[Memory, ...], where: str) -> None:
    for kind in ("flash", "ram"):
        if not any(memory.kind == kind for memory in memories):
            raise TargetError(
                f'no memory of kind "{kind}"', where=where, hint="add one under [[memories]]"
            )


def _toolchains(value: object, where: str) -> dict[str, tuple[str, ...]]:
    """Whether a toolchain of a name exists is for the toolchain layer to say."""
    return {
        name: tuple(_text(flag, f"{where}.{name}") for flag in _list(flags, f"{where}.{name}"))
        for name, flags in _table(value, where).items()
    }


def _emulator(value: object, where: str) -> dict[str, str]:
    table = _table(value, where)
    _check_keys(table, _EMULATOR_KEYS, where)
    if table and "model" not in table:
        raise TargetError('misses "model"', where=where, hint="Unicorn's name of the CPU")
    return {key: _text(item, f"{where}.{key}") for key, item in table.items()}


def _qemu(value: object, where: str) -> dict[str, str | int]:
    table = _table(value, where)
    _check_keys(table, _QEMU_TEXTS + _QEMU_NUMBERS, where)
    for key in _QEMU_TEXTS + _QEMU_NUMBERS if table else ():
        if key not in table:
            raise TargetError(f'misses "{key}"', where=where)
    texts: dict[str, str | int] = {
        key: _text(table[key], f"{where}.{key}") for key in _QEMU_TEXTS if table
    }
    numbers = {key: _number(table[key], f"{where}.{key}") for key in _QEMU_NUMBERS if table}
    return texts | numbers
