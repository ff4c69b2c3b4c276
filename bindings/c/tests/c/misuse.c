/* misuse MODEL INPUT: every function with null and wrong arguments; cancelling; two threads in one session; a caller's
 * arena; and a count of the memory allocated while running. Ends with how many checks passed. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sparrow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* This program's own functions take the place of the C library's, for the shared library too. */
static volatile long allocations;
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_realloc(old, size);
}

int posix_memalign(void **result, size_t align, size_t size) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    *result = __libc_memalign(align, size);
    return *result ? 0 : 12;
}

void *aligned_alloc(size_t align, size_t size) {
    __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return __libc_memalign(align, size);
}

static int passed, failed;

static void check(int condition, const char *what) {
    if (condition) {
        passed++;
    } else {
        failed++;
        printf("FAILED %s (last error: %s)\n", what, sparrow_last_error());
    }
}

#define CHECK(condition) check(condition, #condition)
#define GIVES(status, call) check((call) == SPARROW_STATUS_##status && *sparrow_last_error(), #call " gives " #status)

static void nulls(SparrowModel *model, SparrowSession *session, const char *path) {
    SparrowModel *other;
    SparrowSession *another;
    SparrowTensor tensor;
    SparrowEntry entry;
    SparrowOpTime op;
    size_t count;
    GIVES(NULL, sparrow_model_open(NULL, &other));
    GIVES(NULL, sparrow_model_open(path, NULL));
    GIVES(NULL, sparrow_model_from_bytes(NULL, 10, &other));
    GIVES(NULL, sparrow_model_from_bytes(path, 1, NULL));
    GIVES(NULL, sparrow_model_verify(NULL));
    GIVES(NULL, sparrow_model_entry(NULL, 0, &entry));
    GIVES(NULL, sparrow_model_entry(model, 0, NULL));
    GIVES(NULL, sparrow_session_new(NULL, NULL, &another));
    CHECK(another == NULL);
    GIVES(NULL, sparrow_session_new(model, NULL, NULL));
    GIVES(NULL, sparrow_session_input(NULL, 0, &tensor));
    GIVES(NULL, sparrow_session_input(session, 0, NULL));
    GIVES(NULL, sparrow_session_output(NULL, 0, &tensor));
    GIVES(NULL, sparrow_session_output(session, 0, NULL));
    GIVES(NULL, sparrow_session_run(NULL));
    GIVES(NULL, sparrow_session_cancel(NULL));
    GIVES(NULL, sparrow_session_profile(NULL, &op, 1, &count));
    GIVES(NULL, sparrow_session_profile(session, NULL, 1, &count));
    GIVES(NULL, sparrow_session_profile(session, &op, 1, NULL));
    CHECK(sparrow_model_entry_count(NULL) == 0);
    CHECK(sparrow_session_input_count(NULL) == 0 && sparrow_session_output_count(NULL) == 0);
    CHECK(sparrow_feature(NULL) == 0 && sparrow_feature("") == 0 && sparrow_feature("avx2") != 0);
    sparrow_model_free(NULL);
    sparrow_session_free(NULL);
}

static void wrong(SparrowModel *model, SparrowSession *session, const char *path) {
    SparrowModel *other = model;
    SparrowSession *another = session;
    SparrowTensor tensor;
    SparrowEntry entry;
    SparrowOptions options = {0};
    GIVES(IO, sparrow_model_open("/nonexistent/\xff/model.spw", &other));
    CHECK(other == NULL);
    GIVES(IO, sparrow_model_open("/", &other));
    GIVES(NOT_SPARROW, sparrow_model_open("/proc/self/exe", &other));
    CHECK(strstr(sparrow_last_error(), "/proc/self/exe") != NULL);
    GIVES(NOT_SPARROW, sparrow_model_from_bytes("no model", 8, &other));
    GIVES(NOT_SPARROW, sparrow_model_from_bytes(path, 0, &other));
    GIVES(ARGUMENT, sparrow_model_from_bytes(path, (size_t)-1, &other));
    GIVES(NO_ENTRY, sparrow_model_entry(model, 1, &entry));
    GIVES(NO_TENSOR, sparrow_session_input(session, 1, &tensor));
    GIVES(NO_TENSOR, sparrow_session_output(session, (size_t)-1, &tensor));
    options.entry = UINT32_MAX;
    GIVES(NO_ENTRY, sparrow_session_new(model, &options, &another));
    CHECK(another == NULL);
    options.entry = 0;
    options.threads = UINT32_MAX;
    GIVES(THREADS, sparrow_session_new(model, &options, &another));
    options.threads = 1;
    options.arena = &options;
    options.arena_size = sizeof options;
    GIVES(ARENA, sparrow_session_new(model, &options, &another));
    options.arena_size = (size_t)-1;
    GIVES(ARGUMENT, sparrow_session_new(model, &options, &another));
}

/* Runs and gives the output. */
static const void *run(SparrowSession *session, const void *input) {
    SparrowTensor in, out;
    CHECK(sparrow_session_input(session, 0, &in) == 0 && sparrow_session_output(session, 0, &out) == 0);
    memcpy(in.data, input, in.size);
    CHECK(sparrow_session_run(session) == 0);
    return out.data;
}

static void arenas(SparrowModel *model, SparrowSession *session, const void *input) {
    SparrowEntry entry;
    SparrowSession *mine;
    SparrowTensor out;
    CHECK(sparrow_model_entry(model, 0, &entry) == 0 && entry.inputs == 1 && entry.outputs == 1);
    CHECK(sparrow_model_entry_count(model) == 1 && sparrow_session_input_count(session) == 1);
    CHECK(sparrow_session_output(session, 0, &out) == 0);
    char *memory = aligned_alloc(64, (entry.arena_size + 127) / 64 * 64);
    SparrowOptions options = {.threads = 2, .arena = memory, .arena_size = entry.arena_size};
    CHECK(sparrow_session_new(model, &options, &mine) == 0);
    const char *result = run(mine, input);
    CHECK(result >= memory && result + out.size <= memory + entry.arena_size);
    CHECK(memcmp(result, run(session, input), out.size) == 0);
    sparrow_session_free(mine);
    options.arena = memory + 1;
    GIVES(ARENA, sparrow_session_new(model, &options, &mine));
    free(memory);
}

static void profiles(SparrowSession *session) {
    SparrowOpTime ops[100];
    size_t count = 0, again = 0;
    CHECK(sparrow_session_profile(session, ops, 100, &count) == 0 && count > 10 && count < 100);
    CHECK(ops[0].kernel.len > 0 && ops[count - 1].op.len > 0);
    CHECK(sparrow_session_profile(session, NULL, 0, &again) == 0 && again == count);
}

static void *run_until_cancelled(void *session) {
    SparrowStatus status;
    do {
        status = sparrow_session_run(session);
    } while (status == SPARROW_STATUS_OK || status == SPARROW_STATUS_BUSY);
    return (void *)(size_t)status;
}

static void threads(SparrowSession *session, const void *input) {
    pthread_t runner;
    void *status = NULL;
    long busy = 0;
    CHECK(sparrow_session_cancel(session) == 0);
    GIVES(CANCELLED, sparrow_session_run(session));
    CHECK(sparrow_session_run(session) == 0);
    pthread_create(&runner, NULL, run_until_cancelled, session);
    for (long i = 0; i < 1000000 && busy < 3; i++) {
        busy += sparrow_session_run(session) == SPARROW_STATUS_BUSY;
    }
    CHECK(busy > 0);
    /* The other thread's run alone is left to be cancelled. */
    CHECK(sparrow_session_cancel(session) == 0);
    pthread_join(runner, &status);
    CHECK((size_t)status == SPARROW_STATUS_CANCELLED);
    run(session, input);
}

static void allocates_nothing(SparrowModel *model, const void *input) {
    for (uint32_t threads = 1; threads <= 3; threads += 2) {
        SparrowOptions options = {.threads = threads};
        SparrowSession *session;
        SparrowTensor in;
        CHECK(sparrow_session_new(model, &options, &session) == 0 && sparrow_session_input(session, 0, &in) == 0);
        /* Threads allocate while they start. */
        for (int i = 0; i < 200; i++) {
            run(session, input);
        }
        long before = allocations;
        for (int i = 0; i < 200; i++) {
            memcpy(in.data, input, in.size);
            sparrow_session_run(session);
        }
        CHECK(allocations == before);
        sparrow_session_free(session);
    }
    CHECK(allocations > 0);
}

int main(int count, char **arguments) {
    SparrowModel *model;
    SparrowSession *session;
    SparrowTensor input;
    if (count != 3 || sparrow_model_open(arguments[1], &model) || sparrow_session_new(model, NULL, &session)) {
        fprintf(stderr, "usage: misuse MODEL INPUT %s\n", sparrow_last_error());
        return 2;
    }
    CHECK(*sparrow_last_error() == 0);
    CHECK(sparrow_model_verify(model) == 0 && sparrow_session_input(session, 0, &input) == 0);
    void *bytes = malloc(input.size);
    FILE *file = fopen(arguments[2], "rb");
    CHECK(file && fread(bytes, 1, input.size, file) == input.size);
    fclose(file);
    nulls(model, session, arguments[1]);
    wrong(model, session, arguments[1]);
    arenas(model, session, bytes);
    profiles(session);
    threads(session, bytes);
    allocates_nothing(model, bytes);
    free(bytes);
    sparrow_model_free(model);
    CHECK(sparrow_session_run(session) == 0);
    sparrow_session_free(session);
    printf("misuse: %d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
