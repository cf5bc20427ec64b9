/* count.c - a QEMU plugin that counts instructions: exactly, and without a clock.
 *
 * Arguments: out=FILE, skip=START:STOP (code that is not counted), mark=ADDRESS (any number).
 * Before an instruction at a mark executes, two 64-bit numbers are appended to FILE: its address, and
 * the instructions counted so far.
 *
 * The few functions of QEMU that it needs are declared here, because packages of QEMU come without
 * qemu-plugin.h; these have not changed between versions 1 and 5 of the interface. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_MARKS 64

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t qemu_plugin_id_t;
typedef void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void on_execution(unsigned int cpu, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, on_translation *call);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, on_execution *call,
                                                 int flags, void *data);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                                   on_execution *call, int flags, void *data);

EXPORT int qemu_plugin_version = MIDGE_PLUGIN_VERSION;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

static FILE *out;
static uint64_t counted;
static uint64_t skip_start;
static uint64_t skip_stop;
static uint64_t marks[MAX_MARKS];
static size_t mark_count;

/* A block is counted as a whole when it starts, before its instructions' own callbacks. */
static void on_block(unsigned int cpu, void *data)
{
    (void)cpu;
    counted += (uintptr_t)data;
}

typedef struct {
    uint64_t address;
    uint64_t ahead; /* counted instructions of its block that have not executed yet */
} place;

static void on_mark(unsigned int cpu, void *data)
{
    const place *at = data;
    const uint64_t record[2] = {at->address, counted - at->ahead};

    (void)cpu;
    (void)fwrite(record, sizeof(record), 1, out);
    (void)fflush(out);
}

static int is_mark(uint64_t address)
{
    for (size_t i = 0; i < mark_count; i++) {
        if (marks[i] == address) {
            return 1;
        }
    }
    return 0;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    const size_t size = qemu_plugin_tb_n_insns(tb);
    const uint64_t start = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    const size_t counts = ((start >= skip_start) && (start < skip_stop)) ? 0 : size;

    (void)id;
    if (counts > 0) {
        qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, 0, (void *)(uintptr_t)counts);
    }
    for (size_t i = 0; i < size; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint64_t address = qemu_plugin_insn_vaddr(insn);
        place *at = is_mark(address) ? malloc(sizeof(*at)) : NULL;

        if (at != NULL) {
            at->address = address;
            at->ahead = (counts > 0) ? (size - i) : 0;
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, 0, at);
        }
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        char *end = NULL;

        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "wb");
        } else if (strncmp(argv[i], "skip=", 5) == 0) {
            skip_start = strtoull(argv[i] + 5, &end, 0);
            skip_stop = strtoull(end + 1, NULL, 0);
        } else if ((strncmp(argv[i], "mark=", 5) == 0) && (mark_count < MAX_MARKS)) {
            marks[mark_count] = strtoull(argv[i] + 5, NULL, 0);
            mark_count++;
        }
    }
    if (out == NULL) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    return 0;
}
