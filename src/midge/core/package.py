"""A compiled model: the folder of C as a value, with what a runner must know about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midge.core.files import write_folder
from midge.core.target import Target
from midge.core.types import TensorType


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor at `offset` bytes into the arena. order: its axes as they lie there, the slowest
    first, if not as its type has them."""

    name: str
    type: TensorType
    offset: int
    order: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of the run function: a call of one kernel.

    name: unique in the model, e.g. "conv2d_3".  kernel: the C function, shared by equal operators.
    kinds: the model's operators in it, e.g. ("CONV_2D", "RELU").  src: their place in the file.
    macs: multiply-accumulates of one inference.  outputs: what it leaves in the arena.
    """

    name: str
    kernel: str
    kinds: tuple[str, ...]
    src: str
    macs: int
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """Generated C and its description. `name` is the prefix of every symbol.

    files: path -> text, in the order they are written.
    sources: the C files among them that a build compiles.
    arena_size, weights_size: bytes of RAM and of constants in flash.
    optimize: what its kernels were chosen for, and how it is built unless one asks otherwise.
    """

    name: str
    target: Target
    files: Mapping[str, str]
    sources: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    arena_size: int
    weights_size: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    optimize: str = "speed"

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write the package as `folder`, whole or not at all.

        A folder that Midge wrote is replaced; another one only with `force`, else UsageError.
        """
        path = Path(folder)
        write_folder(path, self.files, "metadata.json", force=force)
        return path
