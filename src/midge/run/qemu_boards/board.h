/* board.h - what the parts of a QEMU image call in each other. */
#ifndef MIDGE_QEMU_BOARD_H
#define MIDGE_QEMU_BOARD_H

#include <stdint.h>

/* Arm's semihosting interface, which RISC-V took over: operation `op` on the block `arguments`. */
uintptr_t midge_qemu_semihosting(uintptr_t op, const void *arguments);

/* Copies initialised data, clears the rest, serves inferences. Called once, with a stack. */
_Noreturn void midge_qemu_start(void);

/* Does nothing: called when an inference is done, for those who watch from outside. */
void midge_qemu_ran(void);

/* Tells the host what went wrong (`cause`: the CPU's number for it) and where, then ends QEMU. */
_Noreturn void midge_qemu_fault(uintptr_t cause, uintptr_t pc, uintptr_t address);

#endif
