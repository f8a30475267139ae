// Vectors as wide as the instruction set has them, for kernels that are written once: see README.md.
//
// Every operation is element by element and rounds once, so all instruction sets give the same bits as long as a
// kernel's order of operations on an element does not depend on the width. Compile with -ffp-contract=off. A
// file that includes this includes nothing else that defines functions, and keeps its own to itself.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define LOCALQ_WIDE static inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
typedef __m512 Wide;
typedef int32_t WideInt __attribute__((vector_size(64)));
typedef float WideAny __attribute__((vector_size(64), aligned(4), may_alias));
LOCALQ_WIDE Wide wide_all(float value) { return _mm512_set1_ps(value); }
LOCALQ_WIDE Wide wide_multiply_add(Wide a, Wide b, Wide c) { return _mm512_fmadd_ps(a, b, c); }
#elif defined(__AVX2__) && defined(__FMA__)
typedef __m256 Wide;
typedef int32_t WideInt __attribute__((vector_size(32)));
typedef float WideAny __attribute__((vector_size(32), aligned(4), may_alias));
LOCALQ_WIDE Wide wide_all(float value) { return _mm256_set1_ps(value); }
LOCALQ_WIDE Wide wide_multiply_add(Wide a, Wide b, Wide c) { return _mm256_fmadd_ps(a, b, c); }
#elif defined(__aarch64__)
typedef float32x4_t Wide;
typedef int32x4_t WideInt;
typedef float WideAny __attribute__((vector_size(16), aligned(4), may_alias));
LOCALQ_WIDE Wide wide_all(float value) { return vdupq_n_f32(value); }
LOCALQ_WIDE Wide wide_multiply_add(Wide a, Wide b, Wide c) { return vfmaq_f32(c, a, b); }
#else
typedef float Wide;
typedef int32_t WideInt;
typedef float WideAny __attribute__((may_alias));
LOCALQ_WIDE Wide wide_all(float value) { return value; }
// Slow where the processor has no such instruction, and the same.
LOCALQ_WIDE Wide wide_multiply_add(Wide a, Wide b, Wide c) { return __builtin_fmaf(a, b, c); }
#endif

constexpr size_t kWide = sizeof(Wide) / sizeof(float);  // 16, 8, 4 or 1: divides 16

LOCALQ_WIDE Wide wide_load(const float* from) { return (Wide)(*reinterpret_cast<const WideAny*>(from)); }
LOCALQ_WIDE void wide_store(float* to, Wide value) { *reinterpret_cast<WideAny*>(to) = (WideAny)(value); }

}  // namespace
