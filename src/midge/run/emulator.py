"""Runs a package on an emulated microcontroller, in this process, with exact counts.

Unicorn executes the very machine code that a board would. Instructions are exact, cycles are
estimated from them by the target's cycle model, stack is how deep the run went.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import util
from typing import Any

from midge.core.errors import RunError, TargetError
from midge.core.package import Package
from midge.core.runner import OperatorRun, Run, Sizes
from midge.core.types import Array
from midge.run.base import RUNNERS
from midge.run.cycles import cycle_model
from midge.run.emulator_counters import BlockCounters, CostTable, Snapshot
from midge.run.emulator_machine import Machine
from midge.run.machine_code import Isa
from midge.run.profile import Profile
from midge.run.tensors import check_status, encode_inputs
from midge.toolchain import Image, build_image

_NEEDED = ("unicorn", "elftools", "capstone")
# A run that executes more basic blocks than this is taken for one that never ends. Counted and
# not timed, so that a slow machine gives the same answer.
_BUDGET_BASE = 10_000_000
_BUDGET_PER_UNIT = 2_000


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
            raise TargetError(
                "the emulator has no model of this CPU",
                where=f"target {package.target.name}",
                hint="use --on qemu, or --on host for the results alone",
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
        self._call("init", (machine.context, machine.arena, package.arena_size))

    @property
    def sizes(self) -> Sizes | None:
        """Bytes of the linked image."""
        return self._image.sizes

    def run(self, inputs: Mapping[str, Array], *, layers: bool = False) -> Run:
        """One inference. UsageError for wrong inputs, RunError when the code fails."""
        return self._result(self._infer(inputs, layers))

    def profile(self, inputs: Mapping[str, Array]) -> Profile:
        """One inference like `run`, with the code that each operator executed."""
        ends = self._infer(inputs, layers=False)
        parts = zip((None, *ends), ends, strict=False)
        blocks = tuple(self._costs.blocks(before, after) for before, after in parts)
        isa: Isa = "riscv" if self._package.target.arch == "riscv" else "arm"
        return Profile(self._result(ends), blocks, self._image, isa, self._model)

    def _infer(self, inputs: Mapping[str, Array], layers: bool) -> list[Snapshot]:
        """The counters at the end of each operator of an inference."""
        if self._closed:
            raise RunError("the session is closed", where=self._package.name)
        machine = self._machine
        for tensor, data in encode_inputs(self._package, inputs):
            machine.write(machine.arena + tensor.offset, data)
        machine.paint_stack()
        self._trace.begin(layers)
        self._call("run", (machine.context,))
        # Where a model reads does not depend on its input: one run shows every access.
        if self._counters.allow_unaligned():
            machine.forget_hooks()
        return self._trace.end()

    def _result(self, ends: list[Snapshot]) -> Run:
        machine, costs = self._machine, self._costs.costs(ends)
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
        self._closed = True


class _Trace:
    """Watches a run for its operators: the i-th kernel that the run function calls is operator i.

    What the run function does itself counts to the operator that ended, before the first
    operator to the first.
    """

    def __init__(
        self, package: Package, image: Image, machine: Machine, counters: BlockCounters
    ) -> None:
        from unicorn import UC_HOOK_CODE

        self._package, self._machine, self._counters = package, machine, counters
        kernels = {operator.kernel for operator in package.operators}
        self._kernels: dict[int, set[str]] = {}
        self._callers: list[range] = []
        for name, symbol in image.symbols.items():
            stem = name.partition(".")[0]  # compilers name clones "kernel.constprop.0"
            if stem in kernels:
                self._kernels.setdefault(symbol.address, set()).add(stem)
            if stem == f"{package.name}_run":
                self._callers.append(range(symbol.address, symbol.address + symbol.size))
        for address in self._kernels:
            machine.engine.hook_add(UC_HOOK_CODE, self._on_kernel, begin=address, end=address)
        self.begin(layers=False)

    def begin(self, layers: bool) -> None:
        """Forget the last run; with `layers`, keep what each operator of the next one leaves."""
        self._keep_layers = layers
        self._called: list[set[str]] = []
        self._snapshots: list[Snapshot] = []
        self.layers: dict[str, Array] = {}

    def end(self) -> list[Snapshot]:
        """The counters at the end of each operator; RunError unless all of them were seen."""
        self._snapshots.append(self._counters.snapshot_at_end())
        operators = self._package.operators
        if operators:
            self._keep()
        called = len(self._called)
        for operator, names in zip(operators, self._called, strict=False):
            if operator.kernel not in names and self._is_known(operator.kernel):
                raise self._mismatch(f"{operator.name} ran {', '.join(names)}")
        if called != len(operators):
            raise self._mismatch(f"{called} kernels were called for {len(operators)} operators")
        return self._snapshots

    def _on_kernel(self, _engine: Any, address: int, _size: int, _data: Any) -> None:
        caller = self._counters.caller
        if caller is None or not any(caller in part for part in self._callers):
            return  # a loop back to the kernel's first instruction, or a kernel's own call
        if self._called:
            self._snapshots.append(self._counters.snapshot_before_block())
            self._keep()
        self._called.append(self._kernels[address])

    def _keep(self) -> None:
        """Read what the operator that has just ended left."""
        index = len(self._called) - 1
        if not self._keep_layers or not 0 <= index < len(self._package.operators):
            return
        for tensor in self._package.operators[index].outputs:
            self.layers[tensor.name] = self._machine.read_tensor(tensor)

    def _is_known(self, kernel: str) -> bool:
        """Whether the image has a function of that name: a compiler may merge equal ones."""
        return any(kernel in names for names in self._kernels.values())

    def _mismatch(self, what: str) -> RunError:
        kernels = {operator.kernel for operator in self._package.operators}
        missing = [kernel for kernel in sorted(kernels) if not self._is_known(kernel)]
        absent = f"; not in the image: {', '.join(missing)}" if missing else ""
        return RunError(
            what + absent,
            where=self._package.name,
            hint="kernels must not be inlined, and each is called once per operator",
        )


def _usual_budget(package: Package) -> int:
    """Basic blocks that no honest run of this model comes near."""
    elements = sum(t.type.elements for o in package.operators for t in o.outputs)
    macs = sum(operator.macs for operator in package.operators)
    return _BUDGET_BASE + _BUDGET_PER_UNIT * (macs + elements)


RUNNERS.add("emulator", EmulatorRunner())
