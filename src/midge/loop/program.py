"""A whole model as loops: kernels, the operations that call them, and the buffers between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from midge.core.types import Array, TensorType
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.schedule import Step


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loop function, scheduled.

    plain: before `steps`.  instructions: by name, those that `steps` and `func` use.
    """

    func: ir.Func
    plain: ir.Func
    steps: tuple[Step, ...] = ()
    instructions: Mapping[str, Instruction] = field(default_factory=dict)

    @property
    def schedule(self) -> tuple[str, ...]:
        """The text of the steps, for the reader."""
        return tuple(map(str, self.steps))


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of kernel `kernel` with buffers `args`, one per parameter.

    inplace: arguments (input buffers) over which the output may be written.
    scratch: arguments that hold nothing before and after.
    """

    name: str
    kernel: str
    args: tuple[str, ...]
    output: str
    kinds: tuple[str, ...]
    src: str
    macs: int
    inplace: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()


def resolve(aliases: Mapping[str, str], value: str) -> str:
    """What `value` is another name of, through any number of aliases."""
    while value in aliases:
        value = aliases[value]
    return value


@dataclass(frozen=True, slots=True)
class Program:
    """types: of every buffer (as the model states it).  aliases: value -> buffer that holds it.
    layouts: the axes of buffers that lie in another order than their types say.
    consts: buffers in flash.  inputs, outputs: value names, resolved through `aliases`."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]
    consts: Mapping[str, Array]
    aliases: Mapping[str, str]
    kernels: tuple[Kernel, ...]
    operations: tuple[Operation, ...]
    layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def buffer(self, value: str) -> str:
        """The buffer that holds `value`."""
        return resolve(self.aliases, value)

    def kernel(self, name: str) -> Kernel:
        return next(k for k in self.kernels if k.func.name == name)
