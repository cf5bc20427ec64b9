"""A whole model as loops: kernels, the operations that call them, and the buffers between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from midge.core.types import Array, TensorType
from midge.loop import ir


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loop function, scheduled. `schedule` is the text of its steps, for the reader."""

    func: ir.Func
    schedule: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of kernel `kernel` with buffers `args`, one per parameter.

    inplace: arguments (input buffers) over which the output may be written.
    """

    name: str
    kernel: str
    args: tuple[str, ...]
    output: str
    kinds: tuple[str, ...]
    src: str
    macs: int
    inplace: tuple[str, ...] = ()


def resolve(aliases: Mapping[str, str], value: str) -> str:
    """What `value` is another name of, through any number of aliases."""
    while value in aliases:
        value = aliases[value]
    return value


@dataclass(frozen=True, slots=True)
class Program:
    """types: of every buffer (as the model states it).  aliases: value -> buffer that holds it.
    consts: buffers in flash.  inputs, outputs: value names, resolved through `aliases`."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]
    consts: Mapping[str, Array]
    aliases: Mapping[str, str]
    kernels: tuple[Kernel, ...]
    operations: tuple[Operation, ...]

    def buffer(self, value: str) -> str:
        """The buffer that holds `value`."""
        return resolve(self.aliases, value)

    def kernel(self, name: str) -> Kernel:
        return next(k for k in self.kernels if k.func.name == name)
