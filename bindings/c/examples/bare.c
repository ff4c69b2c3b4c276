/* bare MODEL INPUT EXPECTED: as run.c, through the interface that needs no operating system. Here files and memory come
 * from one all the same; on a small machine they would be flash and a static array. */
#include <sparrow_bare.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sparrow_bare_fault(void) { abort(); }

/* The bytes of a file at a multiple of 64. */
static void *load(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *bytes = aligned_alloc(64, (*size + 63) / 64 * 64);
    if (!bytes || fread(bytes, 1, *size, file) != *size) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(1);
    }
    fclose(file);
    return bytes;
}

static void must(int32_t status, const char *what) {
    if (status) {
        fprintf(stderr, "%s: error %d\n", what, (int)status);
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: bare MODEL INPUT EXPECTED\n");
        return 2;
    }
    size_t model_size, given_size, expected_size, needed, size;
    void *model = load(arguments[1], &model_size), *given = load(arguments[2], &given_size);
    void *expected = load(arguments[3], &expected_size), *data;
    SparrowBareSession *session;

    must(sparrow_bare_memory(model, model_size, 0, &needed), "model");
    char *memory = malloc(needed + 1);
    /* Wrong arguments are refused: too little memory, no such entry point, null, a truncated file. */
    int refused = sparrow_bare_session(model, model_size, 0, memory, needed - 64, &session) == 17 &&
                  sparrow_bare_session(model, model_size, 0, memory, 0, &session) == 17 &&
                  sparrow_bare_session(model, model_size, 5, memory, needed, &session) == 16 &&
                  sparrow_bare_session(NULL, model_size, 0, memory, needed, &session) == 200 &&
                  sparrow_bare_session(model, model_size, 0, NULL, needed, &session) == 200 &&
                  sparrow_bare_session(model, model_size, 0, memory, needed, NULL) == 200 &&
                  sparrow_bare_session(model, model_size - 1, 0, memory, needed, &session) == 3 &&
                  sparrow_bare_session(model, (size_t)-1, 0, memory, needed, &session) == 1 &&
                  sparrow_bare_memory(model, model_size, 0, NULL) == 200 && sparrow_bare_run(NULL) == 200;
    /* Any address will do: the session aligns itself. */
    must(sparrow_bare_session(model, model_size, 0, memory + 1, needed, &session), "session");
    refused = refused && sparrow_bare_input(session, 1, &data, &size) == 101 &&
              sparrow_bare_output(session, (size_t)-1, &data, &size) == 101 &&
              sparrow_bare_input(session, 0, NULL, &size) == 200;
    must(sparrow_bare_input(session, 0, &data, &size), "input");
    if (size != given_size) {
        fprintf(stderr, "the input has %zu bytes, not %zu\n", size, given_size);
        return 1;
    }
    memcpy(data, given, size);
    must(sparrow_bare_run(session), "run");
    must(sparrow_bare_output(session, 0, &data, &size), "output");
    int same = size == expected_size && memcmp(data, expected, size) == 0;
    printf("bare: %zu bytes of memory, output %s, wrong arguments %s\n", needed, same ? "as expected" : "NOT as expected",
           refused ? "refused" : "NOT refused");
    free(memory);
    free(expected);
    free(given);
    free(model);
    return same && refused ? 0 : 1;
}
