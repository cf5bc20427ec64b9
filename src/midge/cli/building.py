"""What the commands that need a compiled model share."""

from __future__ import annotations

from pathlib import Path

from midge.cli.arguments import byte_size, check_optimize, check_stream_time, pool_sizes
from midge.cli.output import error_console
from midge.driver import Compiled, Limits, Memory


def compile_model(
    model: Path,
    target: str,
    *,
    name: str | None = None,
    optimize: str = "speed",
    search: bool = True,
    static_arena: bool = False,
    max_ram: str | None = None,
    max_flash: str | None = None,
    bands: bool = True,
    stream_input: bool = False,
    stream_time: int | None = None,
    pools: list[str] | None = None,
    hot_weights: bool = False,
    check_memory: bool = False,
    channels_last: bool = False,
) -> Compiled:
    """The model for the target named `target`, as `midge compile` makes it.

    optimize: of `OPTIMIZE`; "debug" builds the kernels for speed differently and is otherwise the
    same.  max_ram, max_flash, pools: as texts.  The other arguments are those of `driver.Memory`.
    """
    from midge.driver import compile_file
    from midge.target import load_target

    goal = "speed" if check_optimize(optimize) == "debug" else optimize
    limits = Limits(byte_size(max_ram, "--max-ram"), byte_size(max_flash, "--max-flash"))
    frames = check_stream_time(stream_time)
    memory = Memory(bands, stream_input, frames, check_memory, pool_sizes(pools), hot_weights)
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
            channels_last=channels_last,
        )
