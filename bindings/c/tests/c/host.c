/* host MODEL INPUT OUTPUT [RUNS [THREADS]]: what bindings/host does, from C. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sparrow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static SparrowModel *model;
static unsigned char *given, *expected;
static size_t given_size, expected_size;
static long runs;
static long rss_before;
static pthread_barrier_t start;

static void must(SparrowStatus status) {
    if (status) {
        fprintf(stderr, "host: %s\n", sparrow_last_error());
        exit(1);
    }
}

static long rss(void) {
    char line[256];
    long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "VmRSS: %ld", &kilobytes) == 1) {
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    return kilobytes;
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static SparrowSession *make(SparrowTensor *input, SparrowTensor *output) {
    SparrowSession *session;
    must(sparrow_session_new(model, NULL, &session));
    must(sparrow_session_input(session, 0, input));
    must(sparrow_session_output(session, 0, output));
    if (input->size != given_size) {
        fprintf(stderr, "host: the input has %zu bytes, not %zu\n", input->size, given_size);
        exit(1);
    }
    return session;
}

static void *soak(void *times_of_thread) {
    long long *times = times_of_thread;
    SparrowTensor input, output;
    SparrowSession *session = make(&input, &output);
    memset(times, 0, runs * sizeof *times);
    pthread_barrier_wait(&start);
    for (long i = 0; i < runs; i++) {
        if (i == runs / 10) {
            rss_before = rss();
        }
        long long begun = now();
        memcpy(input.data, given, given_size);
        must(sparrow_session_run(session));
        times[i] = now() - begun;
        if (memcmp(output.data, expected, expected_size)) {
            fprintf(stderr, "host: run %ld gives another output than the first\n", i);
            exit(1);
        }
    }
    sparrow_session_free(session);
    return NULL;
}

static int less(const void *a, const void *b) {
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: host MODEL INPUT OUTPUT [RUNS [THREADS]]\n");
        return 2;
    }
    FILE *file = fopen(arguments[2], "rb");
    given = malloc(1 << 22);
    given_size = file ? fread(given, 1, 1 << 22, file) : 0;
    if (file) {
        fclose(file);
    }
    must(sparrow_model_open(arguments[1], &model));
    SparrowTensor input, output;
    SparrowSession *session = make(&input, &output);
    memcpy(input.data, given, given_size);
    must(sparrow_session_run(session));
    expected_size = output.size;
    expected = malloc(expected_size);
    memcpy(expected, output.data, expected_size);
    sparrow_session_free(session);
    file = fopen(arguments[3], "wb");
    if (!file || fwrite(expected, 1, expected_size, file) != expected_size || fclose(file)) {
        perror(arguments[3]);
        return 1;
    }
    if (count > 4) {
        runs = atol(arguments[4]);
        int threads = count > 5 ? atoi(arguments[5]) : 1;
        long long *times = malloc(runs * threads * sizeof *times);
        pthread_t *handles = malloc(threads * sizeof *handles);
        pthread_barrier_init(&start, NULL, threads);
        for (int i = 0; i < threads; i++) {
            pthread_create(&handles[i], NULL, soak, times + i * runs);
        }
        for (int i = 0; i < threads; i++) {
            pthread_join(handles[i], NULL);
        }
        long after = rss();
        qsort(times, runs * threads, sizeof *times, less);
        printf("{\"min_ns\":%lld,\"median_ns\":%lld,\"rss_before\":%ld,\"rss_after\":%ld,\"runs\":%ld}\n", times[0],
               times[runs * threads / 2], rss_before, after, runs * threads);
        free(handles);
        free(times);
    }
    sparrow_model_free(model);
    free(expected);
    free(given);
    return 0;
}
