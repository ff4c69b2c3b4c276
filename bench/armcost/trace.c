/* A qemu-user plugin that records what ran: every translated block with its instruction bytes, how often it ran, and
 * which block ran after it how often.
 *
 *     qemu-aarch64 -plugin libarmcost-trace.so,out=FILE PROGRAM ...
 *
 * FILE is text, written when the program ends:
 *
 *     block ID RUNS HEX SYMBOL      one per block, ID counts from 0, SYMBOL is "-" where the executable names none
 *     edge FROM TO RUNS             the commonest successors of a block
 *
 * The successors are what tells a loop made of several blocks from blocks that merely run often. A block keeps
 * `SUCCESSORS` of them; rarer ones are dropped. Counters are plain integers: trace programs with one thread.
 *
 * The few functions used are declared here, so that no qemu header is needed. They are the same from plugin interface
 * 1 (qemu 4.2 to 8.2) on, but for the reading of an instruction's bytes, which interface 3 (qemu 9.1) changed: compile
 * with -DINTERFACE=1, 2 or 3.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef INTERFACE
#define INTERFACE 1
#endif
#define SUCCESSORS 4
#define THREADS 256

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t plugin_id;

enum { PLUGIN_CB_NO_REGS };
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
#if INTERFACE >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#endif

__attribute__((visibility("default"))) int qemu_plugin_version = INTERFACE;

struct block {
    struct block *older;
    const char *symbol;
    uint64_t id, runs;
    struct { struct block *to; uint64_t runs; } next[SUCCESSORS];
    size_t words;
    uint32_t word[];
};

static struct block *newest;            /* all blocks; translation holds qemu's lock */
static struct block *current[THREADS];  /* the block each thread is in */
static const char *out_path;

static uint32_t read_word(const struct qemu_plugin_insn *insn)
{
    uint32_t word;
#if INTERFACE >= 3
    qemu_plugin_insn_data(insn, &word, sizeof word);
#else
    memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
#endif
    return word;
}

static void count_successor(struct block *from, struct block *to)
{
    for (int i = 0; i < SUCCESSORS; i++) {
        if (!from->next[i].to)
            from->next[i].to = to;
        if (from->next[i].to == to) {
            from->next[i].runs++;
            return;
        }
    }
}

static void on_run(unsigned thread, void *data)
{
    struct block *block = data;
    struct block **here = &current[thread % THREADS];
    block->runs++;
    if (*here)
        count_successor(*here, block);
    *here = block;
}

static void on_translate(plugin_id id, struct qemu_plugin_tb *tb)
{
    size_t words = qemu_plugin_tb_n_insns(tb);
    struct block *block = calloc(1, sizeof *block + words * sizeof block->word[0]);
    if (!block) {
        fputs("armcost: out of memory\n", stderr);
        abort();
    }
    (void)id;
    block->words = words;
    for (size_t i = 0; i < words; i++)
        block->word[i] = read_word(qemu_plugin_tb_get_insn(tb, i));
    block->symbol = words ? qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(tb, 0)) : NULL;
    block->id = newest ? newest->id + 1 : 0;
    block->older = newest;
    newest = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_run, PLUGIN_CB_NO_REGS, block);
}

static void on_end(plugin_id id, void *unused)
{
    FILE *out = fopen(out_path, "w");
    (void)id, (void)unused;
    if (!out) {
        perror(out_path);
        return;
    }
    for (struct block *b = newest; b; b = b->older) {
        if (!b->runs)
            continue;
        fprintf(out, "block %" PRIu64 " %" PRIu64 " ", b->id, b->runs);
        for (size_t i = 0; i < b->words; i++)
            fprintf(out, "%08" PRIx32, b->word[i]);
        fprintf(out, " %s\n", b->symbol && *b->symbol ? b->symbol : "-");
        for (int i = 0; i < SUCCESSORS && b->next[i].to; i++)
            fprintf(out, "edge %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", b->id, b->next[i].to->id, b->next[i].runs);
    }
    if (fclose(out))
        perror(out_path);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out_path = strdup(argv[i] + 4);
    if (!out_path) {
        fputs("armcost: the plugin needs out=FILE\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
