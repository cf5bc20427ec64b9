"""Every error a user can meet. Bugs in Midge itself are AssertionError, never one of these.

MidgeError
  CompileError
    ModelError        the model file is malformed or uses something unsupported
    VerifyError       an IR broke one of its own rules
    ScheduleError     a schedule step does not apply to this program
    PlanError         the tensors do not fit the memory of the target
    TargetError       the target is unknown or lacks something the program needs
  RunError            what executes a package failed: emulator, process, board
    ToolchainError    no compiler, or it refused the code
  UsageError          an option or an input file does not make sense
"""

from __future__ import annotations


class MidgeWarning(UserWarning):
    """Something optional could not be done; what was asked for goes on."""


class MidgeError(Exception):
    """Base of all errors that a user can cause and mend.

    what: the fact, in one line.  where: the thing it is about.  hint: what to do.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str, hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(f"{where}: {what}" + (f"\n  hint: {hint}" if hint else ""))


class CompileError(MidgeError):
    """The model cannot be compiled as asked."""

    exit_code = 3


class ModelError(CompileError):
    """The model file is malformed or uses something unsupported."""


class VerifyError(CompileError):
    """An IR broke one of its own rules."""


class ScheduleError(CompileError):
    """A schedule step does not apply to this program."""


class PlanError(CompileError):
    """The tensors do not fit the memory of the target."""


class TargetError(CompileError):
    """The target is unknown or lacks something the program needs: another --target is needed."""

    exit_code = 2


class KernelWarning(MidgeWarning):
    """A kernel that does not build, run or agree with its plain loops was left out: a bug of
    Midge's or of the compiler's, that costs speed and nothing else."""


class RunError(MidgeError):
    """What executes a package failed: the emulator, a process or a board."""

    exit_code = 4


class ToolchainError(RunError):
    """No compiler was found, or it refused the code."""


class UsageError(MidgeError):
    """An option or an input file does not make sense."""
