/* Sparrow without operating system, heap or threads: the caller brings the file's bytes and all memory.
 *
 * Generated from bindings/c/bare by cbindgen: the test `header` compares it and says how to write it anew. */

#ifndef SPARROW_BARE_H
#define SPARROW_BARE_H

#include <stddef.h>
#include <stdint.h>
/* Functions return 0, or a number of sparrow.h's SparrowStatus (1 to 19: the file or the memory; 101: no such tensor;
 * 200: a null argument). The scalar kernels run, which define every result.
 *
 * The program supplies this function, which does not return: it is called on a fault inside Sparrow, of which none is
 * known. */
#ifdef __cplusplus
extern "C"
#endif
void sparrow_bare_fault(void);


// An entry point with the memory it runs on.
typedef struct SparrowBareSession SparrowBareSession;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Bytes of memory that a session of the model's entry point needs, wherever the memory begins.
//
// # Safety
// `bytes` is null or points to `len` bytes; `needed` is null or valid for writing.
int32_t sparrow_bare_memory(const void *bytes, size_t len, uint32_t entry, size_t *needed);

// Makes a session in `memory`, which is its own from then on; forgetting it ends it. `bytes` begin at a multiple of 64
// and stay unchanged while it is used.
//
// # Safety
// `bytes` and `memory` are null or point to as many bytes as said; `session` is null or valid for a pointer.
int32_t sparrow_bare_session(const void *bytes,
                             size_t len,
                             uint32_t entry,
                             void *memory,
                             size_t memory_len,
                             SparrowBareSession **session);

// Where input `index` is written before each run, and its bytes.
//
// # Safety
// `session` is null or a session; `data` and `size` are null or valid for writing.
int32_t sparrow_bare_input(SparrowBareSession *session, size_t index, void **data, size_t *size);

// Where output `index` is read after a run, and its bytes.
//
// # Safety
// `session` is null or a session; `data` and `size` are null or valid for writing.
int32_t sparrow_bare_output(SparrowBareSession *session, size_t index, void **data, size_t *size);

// Runs the entry point.
//
// # Safety
// `session` is null or a session that nobody else uses meanwhile.
int32_t sparrow_bare_run(SparrowBareSession *session);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SPARROW_BARE_H */
