// The C ABI of liblocalq_ggml. runtime/ggml/attach.py mirrors it: change both, and the ABI version.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCALQ_GGML_ABI_VERSION 3
#define LOCALQ_GGML_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

LOCALQ_GGML_API uint32_t localq_ggml_abi_version(void);

// Puts the kernels before llama.cpp's own, for models loaded from now on in this process; `threads` share the work of
// packing. Called before the first model is loaded, or it has no effect. NULL, or why llama.cpp was left as it was:
// another version of ggml, no kernels for this processor, or a wrong result of the self-test. Twice is as once.
LOCALQ_GGML_API const char* localq_ggml_attach(uint32_t threads);

// How models are loaded from now on; both off at first. `embeddings`: the matrix that embeddings are looked up in is
// packed too, as it should be where it is also the output's, for one copy then serves both. `mapped`: llama.cpp maps
// the file, so that its pages can be let go as soon as they are packed.
LOCALQ_GGML_API void localq_ggml_load_with(bool embeddings, bool mapped);

// Bytes that packed matrices take now, in all.
LOCALQ_GGML_API uint64_t localq_ggml_packed_bytes(void);

// A matrix in an LT format, its data in the caller's own mapping of a file: for models loaded from now on, the tensor
// of that name is multiplied from there, whatever its type and bytes in the model are. `experts` matrices of [rows,
// depth] lie one behind the other, each a whole number of strips. All memory stays the caller's, as long as the model
// lives. False for no LT format, a depth that is no multiple of 64, or strips of another size or not 64-byte aligned.
typedef struct localq_ggml_matrix {
  uint32_t bits, state_bits;
  uint64_t rows, depth, experts;
  const void* strips;
  uint64_t bytes;
  const void* signs;  // as localq_lt_input has them
  const void* order;
  const void* table;
} localq_ggml_matrix;

LOCALQ_GGML_API bool localq_ggml_register(const char* name, const localq_ggml_matrix* matrix);

// Models loaded from now on have no such matrices; those that were loaded keep theirs. How many of the registered ones
// models have taken: a tensor whose operations no kernel of ours computes stays with llama.cpp, which knows no LT
// format.
LOCALQ_GGML_API uint64_t localq_ggml_forget_all(void);

// Static scales for what the tensor of that name multiplies, of models loaded from now on: one for each 256 columns
// where the tensor's blocks have as many weights, else for each 32. They are copied. False for one that is not above 0
// and finite. A tensor with another number of them cannot be loaded.
LOCALQ_GGML_API bool localq_ggml_scale_input(const char* name, const float* scales, uint64_t count);

// Models loaded from now on have no static scales; those that were loaded keep theirs. How many of the named tensors
// models have taken scales for.
LOCALQ_GGML_API uint64_t localq_ggml_forget_input_scales(void);

#ifdef __cplusplus
}
#endif
