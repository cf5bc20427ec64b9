/* start_riscv.c - reset and traps of a RISC-V hart in machine mode. */
#include "board.h"

void midge_qemu_riscv_trap(uintptr_t cause, uintptr_t pc, uintptr_t value);

/* The control registers are spelled with .insn, because -march may leave Zicsr out:
 * mtvec 0x305, mstatus 0x300, mcause 0x342, mepc 0x341, mtval 0x343.
 * Reset switches floats and vectors on (mstatus.FS, .VS). A trap takes a fresh stack. */
__asm__(".section .midge_start, \"ax\", @progbits\n"
        ".global midge_qemu_reset\n"
        ".type midge_qemu_reset, @function\n"
        "midge_qemu_reset:\n"
        ".option push\n"
        ".option norelax\n"
        "la gp, __global_pointer$\n"
        ".option pop\n"
        "la sp, midge_qemu_stack_top\n"
        "la t0, midge_qemu_trap\n"
        ".insn i 0x73, 1, x0, t0, 0x305\n"
        "li t0, 0x6600\n"
        ".insn i 0x73, 2, x0, t0, 0x300\n"
        "call midge_qemu_start\n"
        ".balign 4\n"
        ".type midge_qemu_trap, @function\n"
        "midge_qemu_trap:\n"
        ".insn i 0x73, 2, a0, x0, 0x342\n"
        ".insn i 0x73, 2, a1, x0, 0x341\n"
        ".insn i 0x73, 2, a2, x0, 0x343\n"
        "la sp, midge_qemu_stack_top\n"
        "call midge_qemu_riscv_trap\n"
        ".text\n");

void midge_qemu_riscv_trap(uintptr_t cause, uintptr_t pc, uintptr_t value)
{
    midge_qemu_fault(cause, pc, value);
}

uintptr_t midge_qemu_semihosting(uintptr_t op, const void *arguments)
{
    register uintptr_t a0 __asm__("a0") = op;
    register const void *a1 __asm__("a1") = arguments;

    /* QEMU knows the call by these three uncompressed instructions in one line of a page. */
    __asm__ volatile(".option push\n"
                     ".option norvc\n"
                     ".balign 16\n"
                     "slli x0, x0, 0x1f\n"
                     "ebreak\n"
                     "srai x0, x0, 7\n"
                     ".option pop\n"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}
