"""Runs a package on an emulated microcontroller, in this process, with exact counts.

Unicorn executes the very machine code that a board would. Instructions are exact, cycles are
estimated from them by the target's cycle model, stack is how deep the run went.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import util
from typing import Any

from midge.core.errors import RunError, TargetError
from midge.core.package import Call, Package
from midge.core.runner import OperatorRun, Run, Sizes
from midge.core.types import Array
from midge.run.base import RUNNERS
from midge.run.cycles import cycle_model
from midge.run.emulator_counters import BlockCounters, CostTable, Part, joined
from midge.run.emulator_machine import Machine, weakly
from midge.run.machine_code import Isa
from midge.run.memory_check import MemoryCheck
from midge.run.profile import Profile
from midge.run.tensors import check_status, decode_part, encode_frames, encode_inputs, portions
from midge.toolchain import Image, build_image

_NEEDED = ("unicorn", "elftools", "capstone")
# A run that executes more basic blocks than this is taken for one that never ends. Counted and
# not timed, so that a slow machine gives the same answer.
_BUDGET_BASE = 10_000_000
_BUDGET_PER_UNIT = 2_000
# The functions of a package that call kernels.
_CALLERS = ("run", "call", "go_on", "begin", "feed_rows", "push")


class EmulatorRunner:
    """Builds for the package's target and runs there; TargetError when Unicorn lacks its CPU."""

    name = "emulator"

    def available(self) -> str | None:
        """None when Unicorn and its helpers are installed, else how to get them."""
        missing = [name for name in _NEEDED if util.find_spec(name) is None]
        if not missing:
            return None
        return f"no {', '.join(missing)}: pip install unicorn capstone pyelftools"

    def load(
        self, package: Package, *, toolchain: str | None = None, optimize: str | None = None
    ) -> EmulatorSession:
        """Build and load. RunError when Unicorn is missing, ToolchainError when a build fails."""
        reason = self.available()
        if reason is not None:
            raise RunError(reason, where="emulator")
        if "model" not in package.target.emulator:
            others = "--on qemu, or --on host for the results alone"
            raise TargetError(
                "the emulator has no model of this CPU",
                where=f"target {package.target.name}",
                hint=f"use {others if package.target.qemu else '--on host'}",
            )
        image = build_image(package, toolchain=toolchain, optimize=optimize)
        return EmulatorSession(package, image)


class EmulatorSession:
    """A package in an emulated core. Not for several threads at once."""

    def __init__(self, package: Package, image: Image, budget: int | None = None) -> None:
        """Load `image`, built from `package`, and call its init.

        budget: basic blocks after which a call counts as endless; None derives it from the model.
        """
        self._package, self._image = package, image
        self._budget = _usual_budget(package) if budget is None else budget
        self._machine = Machine(package, image)
        aligned = "unaligned" not in package.target.features
        machine = self._machine
        self._counters = BlockCounters(
            machine.engine, *image.code, sp=machine.core.sp, aligned=aligned
        )
        cycles = package.target.emulator.get("cycles")
        self._model = cycle_model(cycles) if cycles else None
        self._costs = CostTable(self._counters, machine.read, machine.core.sizes, self._model)
        self._trace = _Trace(package, image, self._machine, self._counters)
        self._closed = False
        self._pushed = 0
        self._call("init", (machine.context, machine.arena, package.first_size))
        for name, base, size in package.pools[1:]:
            self._call(f"use_{name}", (machine.context, machine.arena + base, size))

    @property
    def sizes(self) -> Sizes | None:
        """Bytes of the linked image."""
        return self._image.sizes

    def run(self, inputs: Mapping[str, Array], *, layers: bool = False) -> Run:
        """One inference. UsageError for wrong inputs, RunError when the code fails."""
        return self._result(self._infer(inputs, layers))

    def profile(self, inputs: Mapping[str, Array]) -> Profile:
        """One inference like `run`, with the code that each operator executed."""
        parts = self._infer(inputs, layers=False)
        blocks = tuple(map(self._costs.blocks, parts))
        isa: Isa = "riscv" if self._package.target.arch == "riscv" else "arm"
        return Profile(self._result(parts), blocks, self._image, isa, self._model)

    def _infer(self, inputs: Mapping[str, Array], layers: bool) -> list[Part]:
        """What each operator of an inference ran."""
        if self._closed:
            raise RunError("the session is closed", where=self._package.name)
        machine = self._machine
        given = encode_inputs(self._package, inputs)
        machine.paint_stack()
        self._trace.begin(layers)
        if self._package.pushes is not None:
            ((_, data),) = given
            self.reset()
            parts: list[Part] = []
            for number, portion in enumerate(portions(self._package, data)):
                parts = self._push(portion, number)
            return parts
        if self._package.arriving:
            ((tensor, data),) = given
            rows = tensor.type.shape[1]
            machine.write(machine.feed, data)
            self._call("feed_rows", (machine.context, machine.feed, rows))
        else:
            for tensor, data in given:
                machine.write(machine.arena + tensor.offset, data)
            self._call("run", (machine.context,))
        self._seen_all()
        return self._trace.end()

    def push(self, frames: Array) -> dict[str, Array] | None:
        """The next frames, [hop, ...]: the outputs of the last window, None while it is not whole.
        UsageError for frames that do not fit or a package that takes none."""
        if self._closed:
            raise RunError("the session is closed", where=self._package.name)
        data, pushes = encode_frames(self._package, frames), self._package.pushes
        machine = self._machine
        assert pushes is not None, "encoded frames"
        self._trace.begin(layers=False)
        self._push(data, self._pushed)
        if self._pushed < pushes.count:
            return None
        return {tensor.name: machine.read_tensor(tensor) for tensor in self._package.outputs}

    def reset(self) -> None:
        """Forget all frames that were pushed."""
        if self._closed:
            raise RunError("the session is closed", where=self._package.name)
        self._pushed = 0
        self._call("reset", (self._machine.context,))

    def _push(self, data: bytes, number: int) -> list[Part]:
        """Push `number` since the last reset; what its operators ran."""
        machine, pushes = self._machine, self._package.pushes
        assert pushes is not None, "frames are pushed"
        machine.write(machine.feed, data)
        self._trace.expect(pushes.calls(self._package, number))
        self._call("push", (machine.context, machine.feed))
        self._pushed = number + 1
        if self._pushed == pushes.count:
            self._seen_all()
        return self._trace.end()

    def _seen_all(self) -> None:
        """Where a model reads does not depend on its input: one run shows every access."""
        if self._counters.allow_unaligned():
            self._machine.forget_hooks()

    def _result(self, parts: list[Part]) -> Run:
        machine, costs = self._machine, self._costs.costs(parts)
        cycles = [cost.cycles for cost in costs if cost.cycles is not None]
        operators = zip(self._package.operators, costs, strict=False)
        return Run(
            outputs={tensor.name: machine.read_tensor(tensor) for tensor in self._package.outputs},
            instructions=sum(cost.instructions for cost in costs),
            cycles=sum(cycles) if cycles else None,
            stack=machine.stack_used(self._counters.lowest_stack),
            operators=tuple(OperatorRun(o.name, c.instructions, c.cycles) for o, c in operators),
            layers=self._trace.layers,
        )

    def _call(self, function: str, arguments: tuple[int, ...]) -> None:
        assert not self._closed, "the core is gone"
        try:
            self._call_once(function, arguments)
        except RunError as error:
            raise self._trace.memory_error or error from None

    def _call_once(self, function: str, arguments: tuple[int, ...]) -> None:
        machine = self._machine
        self._counters.reset(self._budget)
        status = machine.call(f"{self._package.name}_{function}", arguments)
        if self._counters.stopped:
            raise machine.error(self._counters.stopped)
        machine.check_guards()
        check_status(self._package, function, status)
        self._counters.check(self._package.name)

    def close(self) -> None:
        """Let go of the core; closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._machine.close()


class _Trace:
    """Watches a run for its operators: the i-th kernel that the run function calls is the i-th of
    the package's calls.

    What the run function does itself counts to the operator that ended, before the first
    operator to the first.
    """

    def __init__(
        self, package: Package, image: Image, machine: Machine, counters: BlockCounters
    ) -> None:
        from unicorn import UC_HOOK_CODE

        self._package, self._machine, self._counters = package, machine, counters
        kernels = {call.kernel for call in package.all_calls}
        callers = {f"{package.name}_{own}" for own in _CALLERS}
        self._kernels: dict[int, set[str]] = {}
        self._callers: list[range] = []
        for name, symbol in image.symbols.items():
            stem = name.partition(".")[0]  # compilers name clones "kernel.constprop.0"
            if stem in kernels:
                self._kernels.setdefault(symbol.address, set()).add(stem)
            if stem in callers:
                self._callers.append(range(symbol.address, symbol.address + symbol.size))
        for address in self._kernels:
            machine.engine.hook_add(
                UC_HOOK_CODE, weakly(self._on_kernel), begin=address, end=address
            )
        self._memory: MemoryCheck | None = None
        if package.places:
            self._memory = MemoryCheck(
                package,
                lambda: machine.read(machine.arena, package.arena_size),
                lambda data: machine.write(machine.arena, data),
            )
        self.begin(layers=False)

    def begin(self, layers: bool) -> None:
        """Forget the last run; with `layers`, keep what each operator of the next one leaves."""
        self._keep_layers = layers
        if self._memory is not None:
            self._memory.begin()
        self.layers: dict[str, Array] = {}
        self.expect(self._package.all_calls)

    def expect(self, calls: tuple[Call, ...]) -> None:
        """These calls come next."""
        self._calls = calls
        self._called: list[set[str]] = []
        self._parts: list[Part] = []

    def end(self) -> list[Part]:
        """What each operator ran, in all of its calls; RunError unless all calls were seen."""
        self._parts.append(self._counters.part_at_end())
        if self._calls:
            self._keep()
            self._check_memory()
        if self.memory_error is not None:
            raise self.memory_error
        called = len(self._called)
        for call, names in zip(self._calls, self._called, strict=False):
            if call.kernel not in names and self._is_known(call.kernel):
                name = self._package.operators[call.operator].name
                raise self._mismatch(f"{name} ran {', '.join(names)}")
        if called != len(self._calls):
            raise self._mismatch(f"{called} kernels were called, not {len(self._calls)}")
        if not self._package.calls or not self._calls:
            return self._parts
        return by_operator(self._parts, [call.operator for call in self._calls])

    def _on_kernel(self, _engine: Any, address: int, _size: int, _data: Any) -> None:
        caller = self._counters.caller
        if caller is None or not any(caller in part for part in self._callers):
            return  # a loop back to the kernel's first instruction, or a kernel's own call
        if self._called:
            self._parts.append(self._counters.part_before_block())
            self._keep()
        self._check_memory()
        self._called.append(self._kernels[address])

    @property
    def memory_error(self) -> RunError | None:
        """What a checked run has found wrong."""
        return self._memory.error if self._memory is not None else None

    def _check_memory(self) -> None:
        """Before the next kernel."""
        if self._memory is not None and len(self._called) <= len(self._calls):
            self._memory.after(len(self._called) - 1)

    def _keep(self) -> None:
        """Read what the operator that has just ended left."""
        index = len(self._called) - 1
        if not self._keep_layers or not 0 <= index < len(self._calls):
            return
        for part in self._calls[index].parts:
            data = self._machine.read(self._machine.arena + part.offset, part.size)
            decode_part(part, data, self.layers)

    def _is_known(self, kernel: str) -> bool:
        """Whether the image has a function of that name: a compiler may merge equal ones."""
        return any(kernel in names for names in self._kernels.values())

    def _mismatch(self, what: str) -> RunError:
        kernels = {call.kernel for call in self._calls}
        missing = [kernel for kernel in sorted(kernels) if not self._is_known(kernel)]
        absent = f"; not in the image: {', '.join(missing)}" if missing else ""
        return RunError(
            what + absent,
            where=self._package.name,
            hint="kernels must not be inlined, and are called in the package's order",
        )


def by_operator(parts: Sequence[Part], operators: Sequence[int]) -> list[Part]:
    """What each operator ran, from the parts of all calls and the operator that each was for."""
    own: list[list[Part]] = [[] for _ in range(max(operators) + 1)]
    for part, operator in zip(parts, operators, strict=True):
        own[operator].append(part)
    return [joined(found) for found in own]


def _usual_budget(package: Package) -> int:
    """Basic blocks that no honest run of this model comes near."""
    elements = sum(t.type.elements for o in package.operators for t in o.outputs)
    macs = sum(operator.macs for operator in package.operators)
    return _BUDGET_BASE + _BUDGET_PER_UNIT * (macs + elements)


RUNNERS.add("emulator", EmulatorRunner())
