// The C ABI of liblocalq_kernels. runtime/kernels/bindings.py mirrors it: change both, and the ABI version.
//
// Nothing here allocates for the caller, throws, or prints. Kernels take pointers and sizes and check
// neither: shapes are checked once, in the bindings. Every function may be called from any thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCALQ_ABI_VERSION 2
#define LOCALQ_GRAM_WORKSPACE 65536
#define LOCALQ_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// A block format as data, the mirror of quant/formats/format.py's Format. A weight of group g with code c is
// (scale * scales[g]) * levels[c] - minimum * minima[g], each operation rounded to float32 by itself.
typedef struct localq_format {
  uint32_t block;        // weights in a block, at most 256; divides the columns
  uint32_t group;        // weights that share a scale; divides the block
  uint32_t level_count;  // 2 to 256
  uint32_t affine;       // 1: groups have a minimum
  int32_t scale_low;     // range of the groups' scales within a block; both 0 where groups have none
  int32_t scale_high;
  int32_t minima_high;  // highest group minimum within a block; 0 where groups have none
  float levels[256];    // integers, ascending
} localq_format;

// Blocks of a matrix, unpacked; what a format does not have may be NULL.
typedef struct localq_blocks {
  uint8_t* codes;     // [rows, columns]
  uint16_t* scale;    // [rows, columns / block], bits of fp16
  uint16_t* minimum;  // [rows, columns / block], bits of fp16
  int8_t* scales;     // [rows, columns / group]
  uint8_t* minima;    // [rows, columns / group]
} localq_blocks;

// One instruction set: what it asks of the processor and the kernels that it brings.
typedef struct localq_backend {
  const char* name;
  const char* description;
  uint64_t required_features;  // bits as in localq_cpu_features()

  // Sum of a[i] * b[i], exact for every input (-128 * -128 too) and every length below 2^49.
  int64_t (*dot_i8)(const int8_t* a, const int8_t* b, size_t length);

  // Index of the first largest value; NaN never wins; -1 when there is no value but NaN.
  // -0 and +0 are equal.
  int64_t (*argmax_f32)(const float* values, size_t length);

  // Reads `bytes` (a multiple of 1024, 64-byte aligned) once, in order; the wrapping sum of its 64-bit words.
  uint64_t (*read_stream)(const void* data, size_t bytes);

  // The lower triangle of `blocks` matrices of size * size, rows `g_stride` apart, one below the other at `g`:
  // g[b][i][j] += sign * sum over tokens of x[token * stride + b * size + i] * x[token * stride + b * size + j].
  // What is above the diagonal then is undefined. Calls with part = 0 ... parts - 1 share the work, in any order
  // or at once, each with a 64-byte aligned workspace of its own of LOCALQ_GRAM_WORKSPACE floats. sign is 1 or -1.
  // The bits depend on how tokens are split among calls only.
  void (*gram_f32)(const float* x, size_t tokens, size_t stride, size_t blocks, size_t size, float sign, float* g,
                   size_t g_stride, size_t part, size_t parts, float* workspace);
} localq_backend;

LOCALQ_API uint32_t localq_abi_version(void);

// What the processor has *and* the operating system supports. Bit i is named localq_feature_name(i).
LOCALQ_API uint64_t localq_cpu_features(void);
LOCALQ_API const char* localq_feature_name(size_t bit);  // NULL past the last

// The dispatch table: what this build has, best first, "scalar" last. NULL past the end.
LOCALQ_API const localq_backend* localq_backend_at(size_t index);

// The policy, as a pure function: the best backend whose features are there, or the forced one (NULL or "" is
// none). NULL when that cannot run; then `error` (of `error_bytes`, may be 0) says whether the build or the
// processor lacks it.
LOCALQ_API const localq_backend* localq_choose_backend(uint64_t features, const char* forced, char* error,
                                                       size_t error_bytes);

// The policy applied to this processor and the environment's LOCALQ_FORCE_ISA, once in a process's life.
// When that variable cannot be obeyed: NULL, and localq_dispatch_error() says why (NULL otherwise).
LOCALQ_API const localq_backend* localq_active_backend(void);
LOCALQ_API const char* localq_active_isa(void);
LOCALQ_API const char* localq_dispatch_error(void);

// The active backend's kernels. Without one, calling them ends the process with localq_dispatch_error().
LOCALQ_API int64_t localq_dot_i8(const int8_t* a, const int8_t* b, size_t length);
LOCALQ_API int64_t localq_argmax_f32(const float* values, size_t length);

// Bytes per second that `threads` threads together read from memory: see bandwidth.cpp for the method.
// `bytes` in all, split evenly; each share has to exceed the last-level cache by far. Measures for `seconds`.
// Negative: -1 an argument is out of range, -2 not enough memory, -3 threads could not be started.
LOCALQ_API double localq_read_bandwidth(uint32_t threads, uint64_t bytes, double seconds);

// A ggml type whose blocks can be packed: weights and bytes of a block, groups in it, and which fields of
// localq_blocks it uses besides codes and scale.
typedef struct localq_block_layout {
  uint32_t ggml_type;
  uint32_t weights;
  uint32_t bytes;
  uint32_t groups;
  bool minimum;
  bool scales;
  bool minima;
} localq_block_layout;

LOCALQ_API const localq_block_layout* localq_block_layout_of(uint32_t ggml_type);  // NULL for another type

// `count` blocks -> count * bytes. Codes are below the format's level_count; what is above a field's bits is lost.
// False, and nothing is written, for another type.
LOCALQ_API bool localq_pack_blocks(uint32_t ggml_type, const localq_blocks* blocks, size_t count, uint8_t* data);

// count * bytes -> count * weights values; every byte string has some. False for another type.
LOCALQ_API bool localq_dequantize_blocks(uint32_t ggml_type, const uint8_t* data, size_t count, float* values);

// True when the int32_t at `flag` is not 0 (false for NULL). Has the type of ggml_abort_callback, so that
// llama.cpp can be stopped inside a graph without running Python there.
LOCALQ_API bool localq_abort_requested(void* flag);

#ifdef __cplusplus
}
#endif
