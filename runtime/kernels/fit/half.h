// Rounding lanes to fp16, to nearest and ties to even, without the instructions for it: alike everywhere.
#pragma once

#include "lanes.h"

namespace {

constexpr float kHalfMax = 65504.0f;
constexpr float kHalfTiny = 0x1p-24f;    // the smallest above 0
constexpr float kHalfNormal = 0x1p-14f;  // below it the steps no longer shrink

LOCALQ_INLINE f32x16 magnitude(f32x16 value) { return larger(value, -value); }
LOCALQ_INLINE f32x16 with_sign_of(f32x16 size, f32x16 sign) { return choose(sign < all(0.0f), -size, size); }

// 2^10 steps of fp16 around a value: its power of two.
LOCALQ_INLINE f32x16 half_binade(f32x16 size) {
  return larger(from_bits(bits_of(size) & all_i32(0x7f800000)), all(kHalfNormal));
}

// The nearest fp16, as float32; beyond the range the largest. Not for NaN.
LOCALQ_INLINE f32x16 round_to_half(f32x16 value) {
  const f32x16 size = smaller(magnitude(value), all(kHalfMax));
  const f32x16 magic = half_binade(size) * all(1.5f * 8192.0f);  // adding it leaves 10 bits of a fraction
  return with_sign_of((size + magic) - magic, value);
}

// As round_to_half, but what is not 0 does not become 0.
LOCALQ_INLINE f32x16 round_to_half_but_zero(f32x16 value) {
  const f32x16 half = round_to_half(value);
  const f32x16 tiny = choose(value == all(0.0f), all(0.0f), with_sign_of(all(kHalfTiny), value));
  return choose(half == all(0.0f), tiny, half);
}

// An fp16 `steps` further from 0; never through 0, never beyond the largest.
LOCALQ_INLINE f32x16 move_half(f32x16 half, float steps) {
  const f32x16 size = magnitude(half);
  const f32x16 moved = size + half_binade(size) * all(0x1p-10f) * all(steps);
  return with_sign_of(smaller(larger(moved, all(0.0f)), all(kHalfMax)), half);
}

// Bits of a float32 that is an fp16.
LOCALQ_INLINE uint16_t half_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  constexpr uint32_t normal = 0x38800000;  // bits of kHalfNormal
  if (size >= normal) return static_cast<uint16_t>(sign | ((size - normal + (1u << 23)) >> 13));
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(__builtin_fabsf(value) * 0x1p24f));
}

}  // namespace
