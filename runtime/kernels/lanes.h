// Sixteen float lanes, for kernels that are written once and compiled for each instruction set.
//
// Every operation is element by element and rounds once (these files are compiled with -ffp-contract=off), so
// all instruction sets give the same bits. Sums go over a loop, never across lanes. A kernel's body is a header
// in an anonymous namespace that includes nothing else; <operation>/<isa>.cpp includes it with flags of its own.
//
// The lanes are parts as wide as the registers: GCC takes comparisons of wider vectors to pieces, lane by lane.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define LOCALQ_INLINE static inline __attribute__((always_inline))

namespace {

constexpr size_t kLanes = 16;
#if defined(__AVX512F__)
constexpr size_t kPartLanes = 16;
#elif defined(__AVX2__)
constexpr size_t kPartLanes = 8;
#else
constexpr size_t kPartLanes = 4;
#endif
constexpr size_t kParts = kLanes / kPartLanes;

typedef float f32part __attribute__((vector_size(4 * kPartLanes)));
typedef int32_t i32part __attribute__((vector_size(4 * kPartLanes)));
typedef f32part f32part_any __attribute__((aligned(4), may_alias));
typedef i32part i32part_any __attribute__((aligned(4), may_alias));

struct f32x16 {
  f32part part[kParts];
};
struct i32x16 {  // also a mask: -1 where true, 0 where false
  i32part part[kParts];
};

#define LOCALQ_EACH_PART _Pragma("GCC unroll 4") for (size_t p = 0; p < kParts; ++p)

LOCALQ_INLINE f32x16 load(const float* from) {
  f32x16 value;
  LOCALQ_EACH_PART value.part[p] = reinterpret_cast<const f32part_any*>(from)[p];
  return value;
}
LOCALQ_INLINE void store(float* to, f32x16 value) {
  LOCALQ_EACH_PART reinterpret_cast<f32part_any*>(to)[p] = value.part[p];
}
LOCALQ_INLINE i32x16 load(const int32_t* from) {
  i32x16 value;
  LOCALQ_EACH_PART value.part[p] = reinterpret_cast<const i32part_any*>(from)[p];
  return value;
}
LOCALQ_INLINE void store(int32_t* to, i32x16 value) {
  LOCALQ_EACH_PART reinterpret_cast<i32part_any*>(to)[p] = value.part[p];
}
LOCALQ_INLINE f32x16 all(float value) {
  f32x16 lanes;
  LOCALQ_EACH_PART lanes.part[p] = value - f32part{};  // keeps -0, and compiles to a broadcast alone
  return lanes;
}
LOCALQ_INLINE i32x16 all_i32(int32_t value) {
  i32x16 lanes;
  LOCALQ_EACH_PART lanes.part[p] = i32part{} + value;
  return lanes;
}

#define LOCALQ_LANEWISE(type, operation)                                   \
  LOCALQ_INLINE type operator operation(type a, type b) {                  \
    LOCALQ_EACH_PART a.part[p] = a.part[p] operation b.part[p];            \
    return a;                                                              \
  }                                                                        \
  LOCALQ_INLINE type& operator operation##=(type& a, type b) { return a = a operation b; }
LOCALQ_LANEWISE(f32x16, +)
LOCALQ_LANEWISE(f32x16, -)
LOCALQ_LANEWISE(f32x16, *)
LOCALQ_LANEWISE(f32x16, /)
LOCALQ_LANEWISE(i32x16, +)
LOCALQ_LANEWISE(i32x16, -)
LOCALQ_LANEWISE(i32x16, &)
LOCALQ_LANEWISE(i32x16, |)
LOCALQ_LANEWISE(i32x16, ^)
#undef LOCALQ_LANEWISE

#define LOCALQ_COMPARISON(type, operation)                                 \
  LOCALQ_INLINE i32x16 operator operation(type a, type b) {                \
    i32x16 mask;                                                           \
    LOCALQ_EACH_PART mask.part[p] = a.part[p] operation b.part[p];         \
    return mask;                                                           \
  }
LOCALQ_COMPARISON(f32x16, <)
LOCALQ_COMPARISON(f32x16, >)
LOCALQ_COMPARISON(f32x16, <=)
LOCALQ_COMPARISON(f32x16, >=)
LOCALQ_COMPARISON(f32x16, ==)
LOCALQ_COMPARISON(i32x16, <)
LOCALQ_COMPARISON(i32x16, >)
LOCALQ_COMPARISON(i32x16, ==)
#undef LOCALQ_COMPARISON

LOCALQ_INLINE f32x16 operator-(f32x16 a) {
  LOCALQ_EACH_PART a.part[p] = -a.part[p];
  return a;
}
LOCALQ_INLINE i32x16 operator~(i32x16 a) {
  LOCALQ_EACH_PART a.part[p] = ~a.part[p];
  return a;
}
LOCALQ_INLINE i32x16 bits_of(f32x16 value) {
  i32x16 bits;
  LOCALQ_EACH_PART bits.part[p] = reinterpret_cast<i32part>(value.part[p]);
  return bits;
}
LOCALQ_INLINE f32x16 from_bits(i32x16 bits) {
  f32x16 value;
  LOCALQ_EACH_PART value.part[p] = reinterpret_cast<f32part>(bits.part[p]);
  return value;
}
LOCALQ_INLINE f32x16 choose(i32x16 mask, f32x16 yes, f32x16 no) {
  LOCALQ_EACH_PART yes.part[p] = mask.part[p] ? yes.part[p] : no.part[p];
  return yes;
}
LOCALQ_INLINE f32x16 smaller(f32x16 a, f32x16 b) {
  LOCALQ_EACH_PART a.part[p] = a.part[p] < b.part[p] ? a.part[p] : b.part[p];
  return a;
}
LOCALQ_INLINE f32x16 larger(f32x16 a, f32x16 b) {
  LOCALQ_EACH_PART a.part[p] = a.part[p] > b.part[p] ? a.part[p] : b.part[p];
  return a;
}
// To the nearest integer, ties to even; right for |value| < 2^22, which every code is clipped to before.
LOCALQ_INLINE f32x16 round_to_even(f32x16 value) {
  const f32x16 magic = all(12582912.0f);  // 1.5 * 2^23: adding it leaves no bits for a fraction
  return (value + magic) - magic;
}
// a * b + c, rounded once. On a processor without the instruction it is slow, and the same.
LOCALQ_INLINE f32part multiply_add(f32part a, f32part b, f32part c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__ARM_NEON)
  return vfmaq_f32(c, a, b);
#else
  for (size_t lane = 0; lane < kPartLanes; ++lane) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
  return c;
#endif
}
LOCALQ_INLINE f32x16 multiply_add(f32x16 a, f32x16 b, f32x16 c) {
  LOCALQ_EACH_PART c.part[p] = multiply_add(a.part[p], b.part[p], c.part[p]);
  return c;
}

// One register of lanes, for products of matrices, where each lane is an element of its own.
LOCALQ_INLINE f32part load_part(const float* from) { return *reinterpret_cast<const f32part_any*>(from); }
LOCALQ_INLINE void store_part(float* to, f32part value) { *reinterpret_cast<f32part_any*>(to) = value; }
LOCALQ_INLINE f32part all_part(float value) { return value - f32part{}; }

}  // namespace
