"""Between NumPy arrays and the bytes of an arena, and the guards around that arena."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from midge.core.errors import RunError, UsageError
from midge.core.package import Package, Part, Tensor
from midge.core.types import Array

CONTEXT_SIZE = 512  # bytes a package's context may have
# An arena is aligned to this and to no more, so that code which relies on more is found out.
ARENA_ALIGNMENT = 16
# Filled before the first run: memory a package reads before it wrote it is no convenient zero.
FILL = 0xA5
GUARD_SIZE = 1024
GUARD = bytes([0x5C]) * GUARD_SIZE


def arena_start(lowest: int) -> int:
    """The first address from `lowest` on with the arena's alignment and no greater one."""
    double = 2 * ARENA_ALIGNMENT
    return (lowest + ARENA_ALIGNMENT - 1) // double * double + ARENA_ALIGNMENT


def encode_inputs(package: Package, inputs: Mapping[str, Array]) -> list[tuple[Tensor, bytes]]:
    """Each input tensor with its bytes as the arena holds them.

    UsageError when an input is missing, unknown, or of another shape or type.
    """
    names = [tensor.name for tensor in package.inputs]
    for name in inputs:
        if name not in names:
            hint = f"inputs: {', '.join(names)}"
            raise UsageError(f"no input {name!r}", where=package.name, hint=hint)
    return [(tensor, _encode(package, tensor, inputs)) for tensor in package.inputs]


def portions(package: Package, data: bytes) -> list[bytes]:
    """`data`, a whole window, in portions of one push each; the first one begins with zeros if the
    window is no multiple of a push."""
    pushes = package.pushes
    assert pushes is not None, f"{package.name} does not take frames as they come"
    size = push_size(package)
    data = bytes(pushes.count * size - len(data)) + data
    return [data[at : at + size] for at in range(0, len(data), size)]


def push_size(package: Package) -> int:
    """Bytes of the frames of a push."""
    assert package.pushes is not None, f"{package.name} does not take frames as they come"
    t = package.inputs[0].type
    return package.pushes.hop * (t.size // t.shape[1])


def encode_frames(package: Package, frames: Array) -> bytes:
    """The bytes of `frames`, [hop, ...] of the package's input [1, T, ...]; UsageError if it is not
    for frames, or they do not fit."""
    where, pushes = f"{package.name}: frames", package.pushes
    if pushes is None:
        raise UsageError(
            "takes whole inputs", where=where, hint="compile it with --stream-time to push frames"
        )
    t = package.inputs[0].type
    shape = (pushes.hop, *t.shape[2:])
    array = np.asarray(frames)
    if array.shape != shape or array.dtype != t.dtype.numpy:
        raise UsageError(
            f"have shape {array.shape} of {array.dtype}",
            where=where,
            hint=f"expected {shape} of {t.dtype.numpy}",
        )
    return array.astype(t.dtype.numpy.newbyteorder("<")).tobytes()


def _encode(package: Package, tensor: Tensor, inputs: Mapping[str, Array]) -> bytes:
    where = f"{package.name}: input {tensor.name}"
    if tensor.name not in inputs:
        hint = f"give an array {tensor.type.dtype.numpy}{list(tensor.type.shape)}"
        raise UsageError("is not given", where=where, hint=hint)
    array = np.asarray(inputs[tensor.name])
    expected = tensor.type
    if array.shape != expected.shape or array.dtype != expected.dtype.numpy:
        raise UsageError(
            f"has shape {array.shape} of {array.dtype}",
            where=where,
            hint=f"expected {expected.shape} of {expected.dtype.numpy}",
        )
    return array.astype(expected.dtype.numpy.newbyteorder("<")).tobytes()


def decode(tensor: Tensor, data: bytes | bytearray) -> Array:
    """The array that `data`, bytes of the arena, hold for `tensor`."""
    dtype = tensor.type.dtype.numpy
    flat = np.frombuffer(bytes(data), dtype.newbyteorder("<"))
    shape, order = tensor.type.shape, tensor.order
    if order is None:
        return flat.astype(dtype).reshape(shape)
    stored = flat.astype(dtype).reshape([shape[axis] for axis in order])
    return np.ascontiguousarray(stored.transpose(np.argsort(order)))


def decode_part(part: Part, data: bytes, seen: dict[str, Array]) -> None:
    """Put what a call left into `seen`, tensors by name; `data`: the bytes from its offset on."""
    tensor = part.tensor
    if part.rows is None and not part.pitch:
        seen[tensor.name] = decode(tensor, data)
        return
    dtype, shape = tensor.type.dtype.numpy, tensor.type.shape
    flat = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype)
    channels = shape[-1]
    if part.rows is None:
        pixels = tensor.type.elements // channels
        seen[tensor.name] = flat[_index(part, pixels, channels)].reshape(shape)
        return
    width = shape[2]
    count = part.rows[1] - part.rows[0]
    flat = flat[_index(part, count * width, channels)]
    whole = seen.setdefault(tensor.name, np.zeros(shape, dtype))
    whole[0, slice(*part.rows)] = flat.reshape(count, width, channels)


def _index(part: Part, pixels: int, channels: int) -> Array:
    """Where every element [pixels, channels] lies, from the first one on."""
    pixel, channel = (1, part.plane) if part.plane else (part.pitch or channels, 1)
    index: Array = np.arange(pixels)[:, None] * pixel + np.arange(channels)[None, :] * channel
    return index


def check_guards(package: Package, below: bytes, above: bytes) -> None:
    """RunError when code wrote to the guards on either side of the arena."""
    if below != GUARD:
        distance = GUARD_SIZE - next(i for i, byte in enumerate(below) if byte != GUARD[0])
        raise _overrun(package, f"{distance} bytes before its start")
    if above != GUARD:
        beyond = max(i for i, byte in enumerate(above) if byte != GUARD[0]) + 1
        raise _overrun(package, f"up to {beyond} bytes after its end")


def _overrun(package: Package, place: str) -> RunError:
    return RunError(
        f"the generated code wrote outside its arena, {place}",
        where=package.name,
        hint="this is a bug in Midge: please report the model",
    )


def check_status(package: Package, function: str, status: int) -> None:
    """RunError when init or run did not return 0."""
    if status != 0:
        raise RunError(f"{package.name}_{function} returned status {status}", where=package.name)
