/* start_arm.c - vectors, reset and faults of an Arm M-profile CPU. */
#include "board.h"

#define BFAR (*(const volatile uint32_t *)0xE000ED38U)
#define CFSR (*(const volatile uint32_t *)0xE000ED28U)
#define CFSR_BFAR_VALID (1U << 15)
#define STACKED_PC 6U

void midge_qemu_arm_fault(const uint32_t *frame, uint32_t exception);

/* Reset enables the FPU and MVE (CPACR), which compiled code may use from its first instruction.
 * All handlers are one: it passes the exception's frame and number on. */
__asm__(".syntax unified\n"
        ".thumb\n"
        ".section .midge_start, \"ax\", %progbits\n"
        ".word midge_qemu_stack_top\n"
        ".word midge_qemu_reset\n"
        ".rept 14\n"
        ".word midge_qemu_exception\n"
        ".endr\n"
        ".rept 48\n" /* interrupts: none is enabled */
        ".word midge_qemu_exception\n"
        ".endr\n"
        ".global midge_qemu_reset\n"
        ".type midge_qemu_reset, %function\n"
        "midge_qemu_reset:\n"
        "ldr r0, 1f\n"
        "ldr r1, [r0]\n"
        "movs r2, #15\n"
        "lsls r2, r2, #20\n"
        "orrs r1, r2\n"
        "str r1, [r0]\n"
        "dsb\n"
        "isb\n"
        "bl midge_qemu_start\n"
        ".balign 4\n"
        "1: .word 0xE000ED88\n"
        ".type midge_qemu_exception, %function\n"
        "midge_qemu_exception:\n"
        "mrs r0, msp\n"
        "mrs r1, ipsr\n"
        "bl midge_qemu_arm_fault\n"
        ".text\n");

void midge_qemu_arm_fault(const uint32_t *frame, uint32_t exception)
{
    const uint32_t address = ((CFSR & CFSR_BFAR_VALID) != 0U) ? BFAR : 0U;

    midge_qemu_fault(exception, frame[STACKED_PC], address);
}

uintptr_t midge_qemu_semihosting(uintptr_t op, const void *arguments)
{
    register uintptr_t r0 __asm__("r0") = op;
    register const void *r1 __asm__("r1") = arguments;

    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
