/* driver.c - serves inferences to the host over two files, both named pipes.
 *
 * To us, for each inference: a word (1: send layers too), then the inputs in order.
 * From us: messages of a word that says what, a word with the length of the rest in bytes, the rest:
 *   READY status                     the package's init returned
 *   LAYER call, what it left         a kernel has run
 *   DONE  status, guard below, guard above, outputs
 *   FAULT cause, pc, address         the last message
 * Words are little endian, as both CPUs are. */
#include "board.h"
#include "midge_qemu_package.h"

#include <string.h>

enum { READY = 1, LAYER = 2, DONE = 3, FAULT = 4 };
enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { MODE_READ = 1, MODE_WRITE = 5 };

#define APPLICATION_EXIT 0x20026U
#define EXIT_BROKEN_WIRE 3U
#define EXIT_FAULT 4U
#define OPEN_FAILED UINTPTR_MAX

static const char from_target[] = "from_target";
static const char to_target[] = "to_target";

extern uint8_t midge_qemu_data[];
extern uint8_t midge_qemu_data_end[];
extern const uint8_t midge_qemu_data_image[];
extern uint8_t midge_qemu_bss[];
extern uint8_t midge_qemu_bss_end[];

/* 16 bytes off a multiple of 32: the arena is aligned as promised and no better. */
static _Alignas(32) uint8_t memory[16U + (2U * MIDGE_QEMU_GUARD_SIZE) + MIDGE_QEMU_ARENA_SIZE];
static uint8_t *const below = &memory[16];
static uint8_t *const arena = &memory[16U + MIDGE_QEMU_GUARD_SIZE];
static uint8_t *const above = &memory[16U + MIDGE_QEMU_GUARD_SIZE + MIDGE_QEMU_ARENA_SIZE];

static MIDGE_QEMU_CONTEXT context;
static uintptr_t input_file;
static uintptr_t output_file;
static uint32_t layers;
static uint32_t calls; /* of kernels in this inference */

#if MIDGE_QEMU_ARRIVING || MIDGE_QEMU_PUSHES
static _Alignas(16) uint8_t fed[MIDGE_QEMU_INPUT_SIZE];
#endif

static _Noreturn void leave(uintptr_t code)
{
    const uintptr_t block[2] = {APPLICATION_EXIT, code};

    for (;;) {
        (void)midge_qemu_semihosting(SYS_EXIT_EXTENDED, block);
    }
}

static uintptr_t open_file(const char *name, uintptr_t length, uintptr_t mode)
{
    const uintptr_t block[3] = {(uintptr_t)name, mode, length};
    const uintptr_t file = midge_qemu_semihosting(SYS_OPEN, block);

    if (file == OPEN_FAILED) {
        leave(EXIT_BROKEN_WIRE);
    }
    return file;
}

/* Moves all of `data`. The operation answers with what is left; no progress is the end of a file. */
static void transfer(uintptr_t op, uintptr_t file, void *data, uint32_t size)
{
    uint8_t *next = data;
    uintptr_t left = size;

    while (left > 0U) {
        const uintptr_t block[3] = {file, (uintptr_t)next, left};
        const uintptr_t still = midge_qemu_semihosting(op, block);

        if (still >= left) {
            leave((op == SYS_READ) ? 0U : EXIT_BROKEN_WIRE);
        }
        next += left - still;
        left = still;
    }
}

static void receive(void *data, uint32_t size)
{
    transfer(SYS_READ, input_file, data, size);
}

static void send(const void *data, uint32_t size)
{
    transfer(SYS_WRITE, output_file, (void *)(uintptr_t)data, size);
}

/* The start of a message: its first word of content, and `size` more bytes that the caller sends. */
static void send_head(uint32_t what, uint32_t first, uint32_t size)
{
    const uint32_t head[3] = {what, size + (uint32_t)sizeof(first), first};

    send(head, (uint32_t)sizeof(head));
}

static uint32_t total(const midge_qemu_span *spans, uint32_t count)
{
    uint32_t size = 0U;

    for (uint32_t i = 0U; i < count; i++) {
        size += spans[i].size;
    }
    return size;
}

static void send_spans(const midge_qemu_span *spans, uint32_t count)
{
    for (uint32_t i = 0U; i < count; i++) {
        send(&arena[spans[i].offset], spans[i].size);
    }
}

static __attribute__((noinline)) void send_layer(uint32_t index) /* the call's number */
{
    const uint32_t first = midge_qemu_first_layer[index];
    const uint32_t count = midge_qemu_first_layer[index + 1U] - first;

    send_head(LAYER, index, total(&midge_qemu_layers[first], count));
    send_spans(&midge_qemu_layers[first], count);
}

/* Short without layers: what it then executes is not counted, what calls it is. */
void MIDGE_QEMU_NAME(after_operator)(MIDGE_QEMU_CONTEXT *ctx, uint32_t index)
{
    (void)ctx;
    (void)index;
    if (layers != 0U) {
        send_layer(calls);
        calls++;
    }
}

/* A place that a plugin watches: the run has returned. */
__attribute__((noinline)) void midge_qemu_ran(void)
{
    __asm__ volatile("" : : : "memory");
}

static void infer(void)
{
    uint32_t status;

    calls = 0U;
#if MIDGE_QEMU_PUSHES
    receive(fed, MIDGE_QEMU_INPUT_SIZE);
    status = (uint32_t)MIDGE_QEMU_NAME(reset)(&context);
    for (uint32_t i = 0U; (i < MIDGE_QEMU_PUSHES) && (status == 0U); i++) {
        const uint8_t *const frames = &fed[i * (MIDGE_QEMU_INPUT_SIZE / MIDGE_QEMU_PUSHES)];

        status = (uint32_t)MIDGE_QEMU_NAME(push)(&context, (const void *)frames);
    }
#elif MIDGE_QEMU_ARRIVING
    receive(fed, MIDGE_QEMU_INPUT_SIZE);
    status = (uint32_t)MIDGE_QEMU_NAME(feed_rows)(&context, (const void *)fed, MIDGE_QEMU_INPUT_ROWS);
#else
    for (uint32_t i = 0U; i < MIDGE_QEMU_INPUTS; i++) {
        receive(&arena[midge_qemu_inputs[i].offset], midge_qemu_inputs[i].size);
    }
    status = (uint32_t)MIDGE_QEMU_NAME(run)(&context);
#endif
    midge_qemu_ran();
    send_head(DONE, status,
              (2U * MIDGE_QEMU_GUARD_SIZE) + total(midge_qemu_outputs, MIDGE_QEMU_OUTPUTS));
    send(below, MIDGE_QEMU_GUARD_SIZE);
    send(above, MIDGE_QEMU_GUARD_SIZE);
    send_spans(midge_qemu_outputs, MIDGE_QEMU_OUTPUTS);
}

static void prepare_memory(void)
{
    const uint32_t data_size = (uint32_t)(midge_qemu_data_end - midge_qemu_data);
    const uint32_t bss_size = (uint32_t)(midge_qemu_bss_end - midge_qemu_bss);

    memcpy(midge_qemu_data, midge_qemu_data_image, data_size);
    memset(midge_qemu_bss, 0, bss_size);
    memset(&context, MIDGE_QEMU_FILL, sizeof(context));
    memset(below, MIDGE_QEMU_GUARD, MIDGE_QEMU_GUARD_SIZE);
    memset(arena, MIDGE_QEMU_FILL, MIDGE_QEMU_ARENA_SIZE);
    memset(above, MIDGE_QEMU_GUARD, MIDGE_QEMU_GUARD_SIZE);
}

_Noreturn void midge_qemu_start(void)
{
    prepare_memory();
    output_file = open_file(from_target, sizeof(from_target) - 1U, MODE_WRITE);
    input_file = open_file(to_target, sizeof(to_target) - 1U, MODE_READ);
    send_head(READY, (uint32_t)MIDGE_QEMU_NAME(init)(&context, arena, MIDGE_QEMU_FIRST_SIZE), 0U);
    MIDGE_QEMU_USE_POOLS(context, arena);
    for (;;) {
        receive(&layers, (uint32_t)sizeof(layers));
        infer();
    }
}

_Noreturn void midge_qemu_fault(uintptr_t cause, uintptr_t pc, uintptr_t address)
{
    const uint32_t where[2] = {(uint32_t)pc, (uint32_t)address};

    send_head(FAULT, (uint32_t)cause, (uint32_t)sizeof(where));
    send(where, (uint32_t)sizeof(where));
    leave(EXIT_FAULT);
}
