"""What the commands that need a compiled model share."""

from __future__ import annotations

from pathlib import Path

from midge.cli.arguments import check_optimize
from midge.cli.output import error_console
from midge.driver import NO_LIMITS, USUAL, Compiled, Limits, Memory


def compile_model(
    model: Path,
    target: str,
    *,
    name: str | None = None,
    optimize: str = "speed",
    search: bool = True,
    static_arena: bool = False,
    limits: Limits = NO_LIMITS,
    memory: Memory = USUAL,
) -> Compiled:
    """The model for the target named `target`, as `midge compile` makes it.

    optimize: of `OPTIMIZE`; "debug" builds the kernels for speed differently and is otherwise the
    same.
    """
    from midge.driver import compile_file
    from midge.target import load_target

    goal = "speed" if check_optimize(optimize) == "debug" else optimize
    chosen = load_target(target)
    with error_console().status("compiling"):
        return compile_file(
            model,
            chosen,
            name=name,
            static_arena=static_arena,
            limits=limits,
            optimize=goal,
            search=search,
            memory=memory,
        )
