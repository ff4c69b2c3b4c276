/* run MODEL INPUT EXPECTED: opens a model, runs it on the bytes of a file and compares its output with another's.
 *
 *     cc run.c $(pkg-config --cflags --libs sparrow) -o run
 */
#include <sparrow.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, sparrow_last_error());
    return 1;
}

/* Reads a whole file of `size` bytes into `data`. */
static int read_file(const char *path, void *data, size_t size) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        return 0;
    }
    int whole = fread(data, 1, size, file) == size && fgetc(file) == EOF;
    fclose(file);
    return whole;
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: run MODEL INPUT EXPECTED\n");
        return 2;
    }
    SparrowModel *model;
    SparrowSession *session;
    SparrowTensor input, output;
    if (sparrow_model_open(arguments[1], &model)) {
        return failed(arguments[1]);
    }
    if (sparrow_session_new(model, NULL, &session)) {
        return failed("session");
    }
    sparrow_model_free(model); /* the session keeps what it needs */
    if (sparrow_session_input(session, 0, &input) || sparrow_session_output(session, 0, &output)) {
        return failed("tensors");
    }
    if (!read_file(arguments[2], input.data, input.size)) {
        fprintf(stderr, "%s does not hold %zu bytes\n", arguments[2], input.size);
        return 1;
    }
    if (sparrow_session_run(session)) {
        return failed("run");
    }
    unsigned char expected[1 << 16];
    if (output.size > sizeof expected || !read_file(arguments[3], expected, output.size)) {
        fprintf(stderr, "%s does not hold %zu bytes\n", arguments[3], output.size);
        return 1;
    }
    int same = memcmp(output.data, expected, output.size) == 0;
    printf("sparrow %s: %zu bytes of '%.*s', %s\n", sparrow_version(), output.size, (int)output.name.len, output.name.data,
           same ? "as expected" : "NOT as expected");
    sparrow_session_free(session);
    return same ? 0 : 1;
}
