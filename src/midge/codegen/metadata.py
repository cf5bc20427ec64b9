"""metadata.json of a package: what programs can know of it.

SCHEMA counts up when a key goes, or means something else; keys may be added without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from midge.core.options import CompileOptions
from midge.core.target import Target
from midge.loop.program import Program
from midge.plan.arena import Arena
from midge.runtime import LICENSE

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What the search knows of the kernels that are taken; what calls them comes on top.

    code: bytes.  compiler: with its version and flags.
    Their cycles are not here: they depend a little on what was measured beside them, and the same
    model is to give the same bytes.
    """

    code: int
    compiler: str


@dataclass(frozen=True, slots=True)
class Origin:
    """version: of Midge.  model_hash: SHA-256 of the model file.  measured: if anything was.
    classes: what the model calls those that its outputs number; () if it does not say."""

    version: str = ""
    model_hash: str = ""
    measured: Measured | None = None
    classes: tuple[str, ...] = ()


def metadata_of(
    program: Program,
    arena: Arena,
    target: Target,
    options: CompileOptions,
    origin: Origin,
    *,
    align: int,
    pools: Mapping[str, int],
    weights_size: int,
    ports: Mapping[str, Sequence[Mapping[str, Any]]],
    tensors: Sequence[Mapping[str, Any]],
    operators: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """pools: bytes of each memory, where there are several.  ports: "inputs" and "outputs" as the
    templates have them.  tensors, operators: their rows in the tables."""
    schedules = {k.func.name: list(k.schedule) for k in program.kernels}
    values = {"inputs": program.inputs, "outputs": program.outputs}
    return {
        "schema": SCHEMA,
        "midge": origin.version,
        "license": LICENSE,
        "name": program.name,
        "target": target.name,
        "model_sha256": origin.model_hash,
        "options": options.described(),
        "arena": {
            "size": arena.size,
            "align": align,
            "lower_bound": arena.plan.lower_bound,
            **({"pools": dict(pools)} if pools else {}),
        },
        "weights_size": weights_size,
        "kernels": None if origin.measured is None else asdict(origin.measured),
        **{
            kind: [_port(program, p, v) for p, v in zip(ports[kind], names, strict=True)]
            for kind, names in values.items()
        },
        "classes": list(origin.classes),
        "tensors": [
            {
                **{k: r[k] for k in ("label", "offset", "size")},
                "alive": r["kept"],
                **{k: r[k] for k in ("born", "dies")},
            }
            for r in tensors
        ],
        "operators": [
            {**row, "kernel": op.kernel, "schedule": schedules[op.kernel]}
            for row, op in zip(operators, program.operations, strict=True)
        ],
    }


def _port(program: Program, port: Mapping[str, Any], value: str) -> dict[str, Any]:
    quant = program.types[value].quant
    return {
        "name": value,
        "c_name": f"{program.name}_{port['port']}",
        "c_alias": port["alias"] or None,
        "dtype": port["dtype"],
        "shape": list(port["shape"]),
        "offset": port["offset"],
        "size": port["size"],
        "scale": quant.scale[0] if quant else None,
        "zero_point": quant.zero_point[0] if quant else None,
    }
