// What the processor can do. The names are those that `localq doctor` prints; LOCALQ_FORCE_ISA names backends
// instead.
#pragma once

#include <stdint.h>

#define LOCALQ_CPU_FEATURES(X)  \
  X(kSse42, "sse4.2")           \
  X(kAvx, "avx")                \
  X(kAvx2, "avx2")              \
  X(kFma, "fma")                \
  X(kF16c, "f16c")              \
  X(kBmi2, "bmi2")              \
  X(kGfni, "gfni")              \
  X(kAvxVnni, "avx_vnni")       \
  X(kAvx512f, "avx512f")        \
  X(kAvx512bw, "avx512bw")      \
  X(kAvx512vl, "avx512vl")      \
  X(kAvx512dq, "avx512dq")      \
  X(kAvx512Vnni, "avx512_vnni") \
  X(kAvx512Vbmi, "avx512_vbmi") \
  X(kAvx512Bf16, "avx512_bf16") \
  X(kAmxInt8, "amx_int8")       \
  X(kNeon, "neon")              \
  X(kDotprod, "dotprod")        \
  X(kI8mm, "i8mm")              \
  X(kSve, "sve")

namespace localq {

enum Feature : unsigned {
#define LOCALQ_FEATURE_ENUM(id, name) id,
  LOCALQ_CPU_FEATURES(LOCALQ_FEATURE_ENUM)
#undef LOCALQ_FEATURE_ENUM
      kFeatureCount
};
static_assert(kFeatureCount <= 64, "features are bits of a uint64_t");

constexpr uint64_t bit(Feature feature) { return uint64_t{1} << feature; }

template <typename... Features>
constexpr uint64_t bits(Features... features) {
  return (uint64_t{0} | ... | bit(features));
}

// Asks the processor; not cached.
uint64_t detect_features();

}  // namespace localq
