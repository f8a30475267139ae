// The C ABI of liblocalq_kernels. runtime/kernels/bindings.py mirrors it: change both, and the ABI version.
//
// Nothing here allocates for the caller, throws, or prints. Kernels take pointers and sizes and check
// neither: shapes are checked once, in the bindings. Every function may be called from any thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCALQ_ABI_VERSION 11
#define LOCALQ_GRAM_WORKSPACE 65536
#define LOCALQ_CHOLESKY_STEP 128  // rows of a step at most
#define LOCALQ_CHOLESKY_WORKSPACE 65536
#define LOCALQ_TILE_ROWS 64
#define LOCALQ_REFINE_COLUMNS 256
#define LOCALQ_REFINE_WORKSPACE 65536
#define LOCALQ_TRELLIS_WORKSPACE 65536
#define LOCALQ_STRIP_ROWS 16
#define LOCALQ_LT_ROWS 64
#define LOCALQ_FROM_TARGETS 0
#define LOCALQ_FROM_WEIGHTS 1
#define LOCALQ_FROM_ZERO 2
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

// Rows of a matrix that error feedback works on, in tiles of LOCALQ_TILE_ROWS rows: a column of a tile is
// contiguous, columns are in the order in which they are rounded. Missing rows of the last tile are 0.
typedef struct localq_feedback {
  size_t tiles;
  size_t columns;             // a multiple of 4
  size_t groups;              // of a row
  const float* weights;       // [tiles, columns, 64]
  float* errors;              // [tiles, columns, 64]: weight - value of its code
  uint8_t* codes;             // [tiles, columns, 64]
  float* scales;              // [tiles, groups, 64]: float32(scale) * scales[group]
  float* minima;              // [tiles, groups, 64]: float32(minimum) * minima[group]; NULL: 0
  const uint32_t* group_of;   // [columns]
  const float* coefficients;  // [columns, columns]: what the error of column i adds to the target of row k
} localq_feedback;

// What refinement changes beside codes, errors and effective scales, and how. What a format lacks is NULL.
typedef struct localq_refinement {
  float* scale;        // [tiles, blocks, 64]: fp16 values
  float* minimum;      // [tiles, blocks, 64]: fp16 values
  float* scales;       // [tiles, groups, 64]: integers
  float* minima;       // [tiles, groups, 64]: integers
  const float* steps;  // [columns]: 1 / (diagonal of the Hessian + ridge)
  float ridge;         // what is added to the Hessian's diagonal
  uint32_t passes;
} localq_refinement;

// A trellis of words, each a ring of steps (docs/formats.md): a step adds symbol_bits bits to the state's, which then
// names a value of the table.
typedef struct localq_trellis {
  uint32_t symbol_bits;  // 1, 2, 3 or 4
  uint32_t state_bits;   // 4, 6 or 8
  float table[256];      // 2^state_bits of them
} localq_trellis;

// A column of a product: an input as quantize_input writes it, and where the results of all rows go.
typedef struct localq_column {
  const uint8_t* input;
  float* output;  // [rows]
} localq_column;

// A matrix of [rows, depth] in strips (localq_pack_strips, or an LT format's: docs/formats.md) times columns.
typedef struct localq_product {
  const uint8_t* strips;
  size_t rows;
  size_t depth;  // a multiple of the format's block; of LT formats, of 64
  const localq_column* column;
  size_t columns;       // at least 1
  const int8_t* table;  // of LT formats: the values of 2^L states, -127 to 127 (L = 4: -64 to 64); else NULL
  bool prepared;        // the workspace is as a call for the same columns left it: nothing is made of them again
} localq_product;

// How a column becomes the input of an LT matrix: block by block (128 where that divides the depth, else 64) its signs
// are turned, the block goes through a Hadamard transform, and the whole is gathered.
typedef struct localq_lt_input {
  const uint8_t* signs;   // [depth / 8], the lowest bit first: 1 is minus
  const uint16_t* order;  // [depth]: where each value comes from
} localq_lt_input;

// The results of the rows of strips [first_strip, last_strip). `workspace`: 64-byte aligned, of
// localq_workspace_bytes(), the caller's alone. The bits depend neither on how strips and columns are split among
// calls nor on the instruction set. May ask for memory up to 8 KB behind the strips ahead of time, and reads none of it.
typedef void localq_multiply(const localq_product* product, size_t first_strip, size_t last_strip,
                             uint8_t* workspace);

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

  // One step of H = S^T S, S lower triangular, in place of H's lower triangle, from the last rows to the first:
  // rows [first, last), at most LOCALQ_CHOLESKY_STEP; first is a multiple of that. The Gram kernel then has to
  // subtract rows [first, last) of columns [0, first) from what is left. -1, or the row whose pivot is not above
  // `least`. `workspace`: LOCALQ_CHOLESKY_WORKSPACE floats, 64-byte aligned.
  int64_t (*cholesky_step_f32)(float* h, size_t n, size_t first, size_t last, double least, float* workspace);

  // targets [tiles, last - first, 64] of columns [first, last) += errors of columns [from, to) * coefficients.
  // They start from what is there, from the weights, or from 0: `start` is a LOCALQ_FROM_... first, last, from and
  // to are multiples of 4.
  void (*feedback_targets_f32)(const localq_feedback* feedback, size_t first, size_t last, size_t from, size_t to,
                               uint32_t start, float* targets);

  // Rounds columns [first, last), one after the other, to the codes nearest to their targets, to which the errors
  // of the columns before them within the block are added.
  void (*feedback_round_f32)(const localq_feedback* feedback, const localq_format* format, size_t first,
                             size_t last, float* targets);

  // Lowers the loss of columns [first, last): whole blocks of the format, at most LOCALQ_REFINE_COLUMNS, as they
  // lie; the coefficients are the Hessian. Codes, then scales and minima of groups, then those of blocks, `passes`
  // times, and codes again. `outside` [tiles, last - first, 64]: gradients of the errors outside the range, from
  // zero. `workspace`: LOCALQ_REFINE_WORKSPACE floats, 64-byte aligned.
  void (*feedback_refine_f32)(const localq_feedback* feedback, const localq_format* format,
                              const localq_refinement* refinement, size_t first, size_t last,
                              const float* outside, float* workspace);

  // The blocks of [rows, columns] with the least sum of importance[column] * (weight - value)^2 that the search of
  // fit/ finds, each block by itself. Weights are finite and at most 65504 in size; importances are finite and not
  // below 0, and only their ratios within a block count: all 0 is as all 1.
  void (*fit_f32)(const localq_format* format, const float* weights, size_t rows, size_t columns,
                  const float* importance, const localq_blocks* blocks);

  // Rounds columns [first, last), one word's columns after the other, to the words with the least squared error from
  // their targets, to which the errors of the words before them within the block are added. `codes` become states;
  // a row has one scale. first and last are multiples of 4, with one bit a weight of 8. `workspace`:
  // LOCALQ_TRELLIS_WORKSPACE floats, 64-byte aligned.
  void (*trellis_round_f32)(const localq_feedback* feedback, const localq_trellis* trellis, size_t first, size_t last,
                            float* targets, float* workspace);

  // The product for matrices of a ggml type; NULL for a type without one.
  localq_multiply* (*multiply_of)(uint32_t ggml_type);

  // Floats of a column -> an input of localq_input_bytes(depth, block), 64-byte aligned, for matrices whose blocks
  // have `block` weights: 32, 64, 128 or 256, a divisor of depth. A block with NaN or infinity gives such results.
  void (*quantize_input)(const float* values, size_t depth, size_t block, uint8_t* input);

  // The same with scales that were fixed beforehand, and 1 over each: one for each 256 values where the matrix's blocks
  // have as many, else for each 32. What is beyond 127 steps becomes 127. A column with NaN or infinity gives NaN.
  void (*quantize_input_static)(const float* values, const float* scales, const float* inverses, size_t depth,
                                size_t block, uint8_t* input);

  // The product for matrices with codes of `bits` bits and states of `state_bits`; NULL for what is no LT format. Its
  // inputs are those of lt_transform_input, its strips have LOCALQ_LT_ROWS rows, its workspace
  // localq_lt_workspace_bytes().
  localq_multiply* (*lt_multiply_of)(uint32_t bits, uint32_t state_bits);

  // Floats of a column -> an input of localq_lt_input_bytes(depth), 64-byte aligned. A column with NaN or infinity
  // gives such results. `workspace`: [depth].
  void (*lt_transform_input)(const localq_lt_input* transform, const float* values, size_t depth, uint8_t* input,
                             float* workspace);
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

// A ggml type that can be multiplied: weights and bytes of a block, bytes of its unfolded codes in sixteen rows.
typedef struct localq_strip_layout {
  uint32_t ggml_type;
  uint32_t weights;
  uint32_t bytes;
  uint32_t line_bytes;
} localq_strip_layout;

LOCALQ_API const localq_strip_layout* localq_strip_layout_of(uint32_t ggml_type);  // NULL for another type

// Strips [first_strip, last_strip) of a matrix of [row_count, depth] in ggml's blocks. `strips` begins with strip 0
// and takes as many bytes as the blocks of the next multiple of LOCALQ_STRIP_ROWS rows. False for another type.
LOCALQ_API bool localq_pack_strips(uint32_t ggml_type, const uint8_t* rows, size_t row_count, size_t depth,
                                   size_t first_strip, size_t last_strip, uint8_t* strips);

// One row in ggml's blocks again: the bytes that were packed, but for those of TQ1_0 that no encoder writes.
LOCALQ_API bool localq_unpack_row(uint32_t ggml_type, const uint8_t* strips, size_t depth, size_t row,
                                  uint8_t* data);

LOCALQ_API size_t localq_input_bytes(size_t depth, size_t block);
LOCALQ_API size_t localq_workspace_bytes(const localq_strip_layout* layout, size_t depth, size_t columns);

// Bytes of a strip of LOCALQ_LT_ROWS rows in an LT format, of an input, and of what a product with `columns` columns or
// a transform needs for itself.
LOCALQ_API size_t localq_lt_strip_bytes(uint32_t bits, size_t depth);
LOCALQ_API size_t localq_lt_input_bytes(size_t depth);
LOCALQ_API size_t localq_lt_workspace_bytes(size_t depth, size_t columns);

// Rows of a matrix, `stride` values apart -> tiles, and back. order[k] is where column k of the tiles is in a row.
LOCALQ_API void localq_tiles_load_f32(const float* from, size_t rows, size_t stride, const uint32_t* order,
                                      size_t columns, float* tiles);
LOCALQ_API void localq_tiles_store_f32(const float* tiles, size_t rows, size_t stride, const uint32_t* order,
                                       size_t columns, float* to);
LOCALQ_API void localq_tiles_store_u8(const uint8_t* tiles, size_t rows, size_t stride, const uint32_t* order,
                                      size_t columns, uint8_t* to);

// True when the int32_t at `flag` is not 0 (false for NULL). Has the type of ggml_abort_callback, so that
// llama.cpp can be stopped inside a graph without running Python there.
LOCALQ_API bool localq_abort_requested(void* flag);

#ifdef __cplusplus
}
#endif
