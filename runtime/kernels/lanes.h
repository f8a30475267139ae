// Sixteen float lanes, for kernels that are written once and compiled for each instruction set.
//
// Every operation is element by element and rounds once (these files are compiled with -ffp-contract=off), so
// all instruction sets give the same bits. Sums go over a loop, never across lanes. A kernel's body is a header
// in an anonymous namespace that includes nothing else; <operation>/<isa>.cpp includes it with flags of its own.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LOCALQ_INLINE static inline __attribute__((always_inline))

namespace {

constexpr size_t kLanes = 16;
typedef float f32x16 __attribute__((vector_size(64), aligned(64)));
typedef int32_t i32x16 __attribute__((vector_size(64), aligned(64)));
typedef f32x16 f32x16_any __attribute__((aligned(4), may_alias));

LOCALQ_INLINE f32x16 load(const float* from) { return *reinterpret_cast<const f32x16_any*>(from); }
LOCALQ_INLINE void store(float* to, f32x16 value) { *reinterpret_cast<f32x16_any*>(to) = value; }
LOCALQ_INLINE f32x16 all(float value) { return f32x16{} + value; }

// To the nearest integer, ties to even; right for |value| < 2^22, which every code is clipped to before.
LOCALQ_INLINE f32x16 round_to_even(f32x16 value) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves no bits for a fraction
  return (value + magic) - magic;
}
LOCALQ_INLINE f32x16 choose(i32x16 mask, f32x16 yes, f32x16 no) { return mask ? yes : no; }
LOCALQ_INLINE f32x16 smaller(f32x16 a, f32x16 b) { return choose(a < b, a, b); }
LOCALQ_INLINE f32x16 larger(f32x16 a, f32x16 b) { return choose(a > b, a, b); }

// a * b + c, rounded once. On a processor without the instruction it is slow, and the same.
LOCALQ_INLINE f32x16 multiply_add(f32x16 a, f32x16 b, f32x16 c) {
  f32x16 sum;
  for (size_t lane = 0; lane < kLanes; ++lane) sum[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
  return sum;
}

}  // namespace
