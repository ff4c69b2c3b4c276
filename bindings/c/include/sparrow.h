/* Sparrow: an inference runtime for phones, browsers and other small machines.
 *
 * Generated from bindings/c/src by cbindgen: the test `header` compares it and says how to write it anew. */

#ifndef SPARROW_H
#define SPARROW_H

#include <stddef.h>
#include <stdint.h>
/* Every function that can fail returns a SparrowStatus: 0, or a number that never changes. sparrow_last_error() says in
 * words what failed last on the calling thread. No function ends the program, whatever it is given; only freed or made-up
 * pointers are beyond its sight.
 *
 * Models may be used from any thread at once. A session is used by one thread at a time; two at once get SPARROW_STATUS_BUSY. */

// 0, or why a call failed. Numbers never change.
enum SparrowStatus
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // It worked.
  SPARROW_STATUS_OK = 0,
  // The bytes are not a Sparrow file.
  SPARROW_STATUS_NOT_SPARROW = 1,
  // The file has a format version this build does not read.
  SPARROW_STATUS_VERSION = 2,
  // The file is shorter or longer than its header says.
  SPARROW_STATUS_SIZE = 3,
  // The file's header contradicts itself.
  SPARROW_STATUS_HEADER = 4,
  // Bytes in memory do not begin at a multiple of 64.
  SPARROW_STATUS_ALIGNMENT = 5,
  // A section of the file is missing.
  SPARROW_STATUS_SECTION_MISSING = 6,
  // A section of the file lies where it must not.
  SPARROW_STATUS_SECTION = 7,
  // A section of the file is not known to this build.
  SPARROW_STATUS_SECTION_UNKNOWN = 8,
  // A part of the file has been altered.
  SPARROW_STATUS_HASH = 9,
  // A tensor of the file is invalid.
  SPARROW_STATUS_TENSOR = 10,
  // A weight encoding is not known to this build.
  SPARROW_STATUS_LAYOUT = 11,
  // An operator is not known to this build.
  SPARROW_STATUS_OPERATOR = 12,
  // An operator of the file is invalid.
  SPARROW_STATUS_OP = 13,
  // An operator's parameters do not fit its operands.
  SPARROW_STATUS_REFUSED = 14,
  // An entry point of the file is invalid.
  SPARROW_STATUS_ENTRY = 15,
  // There is no entry point with this number.
  SPARROW_STATUS_NO_ENTRY = 16,
  // The arena is too small or does not begin at a multiple of 64.
  SPARROW_STATUS_ARENA = 17,
  // The run was cancelled.
  SPARROW_STATUS_CANCELLED = 18,
  // No kernel takes an operator.
  SPARROW_STATUS_NO_KERNEL = 19,
  // The file cannot be read.
  SPARROW_STATUS_IO = 100,
  // There is no input or output with this number.
  SPARROW_STATUS_NO_TENSOR = 101,
  // A tensor holds elements of another type.
  SPARROW_STATUS_TYPE = 102,
  // The system refused a thread.
  SPARROW_STATUS_THREAD = 103,
  // Too many threads were asked for.
  SPARROW_STATUS_THREADS = 104,
  // An argument that must not be null is.
  SPARROW_STATUS_NULL = 200,
  // An argument has no meaning.
  SPARROW_STATUS_ARGUMENT = 201,
  // Another thread is using the session.
  SPARROW_STATUS_BUSY = 202,
  // A fault inside Sparrow; the session, if one was given, must not be used again but freed.
  SPARROW_STATUS_PANIC = 203,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum SparrowStatus SparrowStatus;
#else
typedef int32_t SparrowStatus;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The type of a tensor's elements, numbered as in the file.
enum SparrowType
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // 32-bit float.
  SPARROW_TYPE_F32 = 0,
  // 16-bit float.
  SPARROW_TYPE_F16 = 1,
  // Signed byte.
  SPARROW_TYPE_I8 = 2,
  // Unsigned byte.
  SPARROW_TYPE_U8 = 3,
  // 32-bit signed integer.
  SPARROW_TYPE_I32 = 4,
  // 64-bit signed integer.
  SPARROW_TYPE_I64 = 5,
  // One byte, 0 or 1.
  SPARROW_TYPE_BOOL = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum SparrowType SparrowType;
#else
typedef int32_t SparrowType;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A model: a mapped file, or bytes in memory, validated once.
typedef struct SparrowModel SparrowModel;

// An entry point ready to run.
typedef struct SparrowSession SparrowSession;

// A run of UTF-8 text. It does not end in NUL.
typedef struct {
  // First byte.
  const char *data;
  // Number of bytes.
  size_t len;
} SparrowText;

// An entry point of a model.
typedef struct {
  // Its name; lives as long as the model and its sessions.
  SparrowText name;
  // Number of inputs.
  uint32_t inputs;
  // Number of outputs.
  uint32_t outputs;
  // Bytes of memory a session of it runs on.
  size_t arena_size;
} SparrowEntry;

// How a session runs. All zeros: one thread, every CPU feature, the first entry point.
typedef struct {
  // Threads, the caller's included; 0 is 1, 256 the most.
  uint32_t threads;
  // CPU features not to use: bits of sparrow_feature().
  uint32_t without_features;
  // Number of the entry point.
  uint32_t entry;
  // Memory to run on: at least the entry point's arena_size bytes at a multiple of 64, the session's alone until it is
  // freed. Null: the session allocates it.
  void *arena;
  // Bytes of the arena.
  size_t arena_size;
} SparrowOptions;

// An input or output with its place in memory.
typedef struct {
  // Its elements, row-major, inside the session's arena: written before each run (inputs: a run may reuse their memory)
  // or read after it (outputs). The address stays the same until the session is freed.
  void *data;
  // Bytes of its elements.
  size_t size;
  // Its name in the source network; lives as long as the session.
  SparrowText name;
  // Its dimensions; those beyond `rank` are 0.
  uint32_t dims[8];
  // Number of dimensions.
  uint32_t rank;
  // Type of its elements.
  SparrowType element;
  // Of a quantized tensor, `real = scale * (code - zero)`; 0 for another.
  float scale;
  // The code of 0.
  int32_t zero;
} SparrowTensor;

// Time of one operator of a run. The texts live as long as the session.
typedef struct {
  // Its name in the source network.
  SparrowText name;
  // What it computes.
  SparrowText op;
  // The kernel that ran.
  SparrowText kernel;
  // How long it took.
  uint64_t nanoseconds;
} SparrowOpTime;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// What failed last on this thread, in words; empty if nothing has. Valid until this thread's next failing call.
const char *sparrow_last_error(void);

// Sparrow's version, as in "0.1.0".
const char *sparrow_version(void);

// The CPU features kernels may use here, one a bit.
uint32_t sparrow_cpu_features(void);

// The bit of the CPU feature called `name`, as in "avx2" or "dotprod"; 0 if there is none of this name.
//
// # Safety
// `name` is null or a string.
uint32_t sparrow_feature(const char *name);

// Maps and validates a file; no weight is read. The file must not be changed in place while the model is open.
//
// # Safety
// `path` is null or a string; `model` is null or valid for a pointer.
SparrowStatus sparrow_model_open(const char *path,
                                 SparrowModel **model);

// Validates a copy of a model in memory.
//
// # Safety
// `bytes` is null or points to `len` bytes; `model` is null or valid for a pointer.
SparrowStatus sparrow_model_from_bytes(const void *bytes, size_t len, SparrowModel **model);

// Compares the hash of every part of the file, weights included: reads all of it.
//
// # Safety
// `model` is null or a model.
SparrowStatus sparrow_model_verify(const SparrowModel *model);

// Number of entry points; 0 for null.
//
// # Safety
// `model` is null or a model.
uint32_t sparrow_model_entry_count(const SparrowModel *model);

// Entry point `index`.
//
// # Safety
// `model` is null or a model; `entry` is null or valid for writing.
SparrowStatus sparrow_model_entry(const SparrowModel *model, uint32_t index, SparrowEntry *entry);

// Lets go of a model; its sessions keep what they need of it. Null is let pass.
//
// # Safety
// `model` is null, or a model that has not been freed.
void sparrow_model_free(SparrowModel *model);

// Makes a session; `options` null means all zeros. Starts its threads and, unless it is given one, allocates its arena.
//
// # Safety
// `model` is null or a model; `options` is null or valid, its arena what it says; `session` is null or valid for a pointer.
SparrowStatus sparrow_session_new(const SparrowModel *model,
                                  const SparrowOptions *options,
                                  SparrowSession **session);

// Number of inputs; 0 for null or while another thread uses the session.
//
// # Safety
// `session` is null or a session.
uint32_t sparrow_session_input_count(const SparrowSession *session);

// Number of outputs; 0 for null or while another thread uses the session.
//
// # Safety
// `session` is null or a session.
uint32_t sparrow_session_output_count(const SparrowSession *session);

// Input `index`: what it is, and where to write it. No copy is made.
//
// # Safety
// `session` is null or a session; `tensor` is null or valid for writing.
SparrowStatus sparrow_session_input(const SparrowSession *session,
                                    size_t index,
                                    SparrowTensor *tensor);

// Output `index`: what it is, and where to read it after a run. No copy is made.
//
// # Safety
// `session` is null or a session; `tensor` is null or valid for writing.
SparrowStatus sparrow_session_output(const SparrowSession *session,
                                     size_t index,
                                     SparrowTensor *tensor);

// Runs the entry point. Allocates nothing.
//
// # Safety
// `session` is null or a session.
SparrowStatus sparrow_session_run(const SparrowSession *session);

// Stops the run under way before its next operator, or else the next run at once: that run returns SPARROW_STATUS_CANCELLED.
// May be called from any thread while the session lives.
//
// # Safety
// `session` is null or a session.
SparrowStatus sparrow_session_cancel(const SparrowSession *session);

// Runs the entry point and times its operators: writes the first `capacity` of them to `ops`, which may be null if that
// is 0, and their number to `count`. Allocates.
//
// # Safety
// `session` is null or a session; `ops` is null or has room for `capacity`; `count` is null or valid for writing.
SparrowStatus sparrow_session_profile(const SparrowSession *session,
                                      SparrowOpTime *ops,
                                      size_t capacity,
                                      size_t *count);

// Ends a session. Null is let pass.
//
// # Safety
// `session` is null, or a session that has not been freed and that no thread is using.
void sparrow_session_free(SparrowSession *session);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SPARROW_H */
