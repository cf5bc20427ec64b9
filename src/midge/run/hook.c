/* hook.c - counts the basic blocks that Unicorn runs, fast enough to leave on.
 *
 * Built for this machine by midge.run.emulator_counters; `midge_counters` has a twin there.
 * A block is known by its slot: half the distance of its first instruction from `base`, as
 * instructions of Thumb and compressed RISC-V lie on even addresses.
 */
#include <stdint.h>

typedef struct midge_counters {
    uint64_t base;      /* address of slot 0 */
    uint64_t slots;     /* length of the tables; also the slot of "no block" */
    uint64_t budget;    /* blocks that may still run */
    uint64_t next;      /* address after the block that runs: going on there is not a jump */
    uint64_t slot;      /* the block that runs */
    uint64_t caller;    /* the block before it */
    uint64_t conflicts; /* blocks that changed their size: their counts mean nothing */
    uint32_t *count;    /* by slot: times run */
    uint32_t *taken;    /* by slot: times left for another place than the next instruction */
    uint32_t *size;     /* by slot: bytes, 0 = never run */
    uint64_t lowest;    /* the stack pointer's least value where a block first begins */
    int sp;             /* Unicorn's number of that register */
    int (*read)(void *unicorn, int reg, void *value);
    int (*stop)(void *unicorn);
    uint64_t unaligned; /* the first address that an access was not aligned at, or 0 */
    uint64_t width;     /* bytes of that access */
} midge_counters;

static void note_stack(void *unicorn, midge_counters *c)
{
    uint32_t sp = 0U;

    (void)c->read(unicorn, c->sp, &sp);
    if (sp < c->lowest) {
        c->lowest = sp;
    }
}

/* A UC_HOOK_BLOCK callback for the addresses of the tables. */
void midge_on_block(void *unicorn, uint64_t address, uint32_t size, void *user);
void midge_on_block(void *unicorn, uint64_t address, uint32_t size, void *user)
{
    midge_counters *const c = user;
    const uint64_t slot = (address - c->base) / 2U;

    if (c->budget == 0U) {
        (void)c->stop(unicorn);
        return;
    }
    c->budget--;
    if ((c->slot < c->slots) && (address != c->next)) {
        c->taken[c->slot]++;
    }
    if ((c->size[slot] != 0U) && (c->size[slot] != size)) {
        c->conflicts++;
    }
    if (c->count[slot] == 0U) {
        note_stack(unicorn, c);
    }
    c->size[slot] = size;
    c->count[slot]++;
    c->caller = c->slot;
    c->slot = slot;
    c->next = address + size;
}

/* A UC_HOOK_MEM_READ and UC_HOOK_MEM_WRITE callback for cores that fault on what Unicorn allows. */
void midge_on_access(void *unicorn, int type, uint64_t address, int size, int64_t value,
                     void *user);
void midge_on_access(void *unicorn, int type, uint64_t address, int size, int64_t value,
                     void *user)
{
    midge_counters *const c = user;

    (void)type;
    (void)value;
    if (((address & (uint64_t)(size - 1)) != 0U) && (c->unaligned == 0U)) {
        c->unaligned = address;
        c->width = (uint64_t)size;
        (void)c->stop(unicorn);
    }
}
