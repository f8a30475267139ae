// The dispatch table and the policy that chooses from it.
//
// A new instruction set is one line in kBackends, a new operation one member of localq_backend.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>

#include "cpu/features.h"
#include "kernels.h"
#include "localq_kernels.h"

namespace localq {
namespace {

// Best first; the last one runs everywhere.
const localq_backend kBackends[] = {
#if LOCALQ_BUILT_AVX512VBMI
    {"avx512vbmi", "AVX-512 with VNNI and VBMI (Ice Lake, Zen 4 and later)",
     bits(kAvx512f, kAvx512bw, kAvx512vl, kAvx512Vnni, kAvx512Vbmi), dot_i8_avx512vnni, argmax_f32_avx512vnni,
     read_stream_avx512vnni, gram_f32_avx512vnni, cholesky_step_f32_avx512vnni,
     feedback_targets_f32_avx512vnni, feedback_round_f32_avx512vnni,
     feedback_refine_f32_avx512vnni, fit_f32_avx512vnni, trellis_round_f32_avx512vnni,
     multiply_of_avx512vnni, quantize_input_avx512vnni, quantize_input_static_avx512vnni,
     lt_multiply_of_avx512vbmi, lt_transform_input_avx512vbmi},
#endif
#if LOCALQ_BUILT_AVX512VNNI
    {"avx512vnni", "AVX-512 with VNNI (Cascade Lake and later)",
     bits(kAvx512f, kAvx512bw, kAvx512vl, kAvx512Vnni), dot_i8_avx512vnni, argmax_f32_avx512vnni,
     read_stream_avx512vnni, gram_f32_avx512vnni, cholesky_step_f32_avx512vnni,
     feedback_targets_f32_avx512vnni, feedback_round_f32_avx512vnni,
     feedback_refine_f32_avx512vnni, fit_f32_avx512vnni, trellis_round_f32_avx512vnni,
     multiply_of_avx512vnni, quantize_input_avx512vnni, quantize_input_static_avx512vnni,
     lt_multiply_of_avx512vnni, lt_transform_input_avx512vnni},
#endif
#if LOCALQ_BUILT_AVX_VNNI
    {"avx_vnni", "AVX2 with VNNI (Alder Lake, Zen 5 and later)", bits(kAvx2, kFma, kF16c, kAvxVnni),
     dot_i8_avx_vnni, argmax_f32_avx2, read_stream_avx2, gram_f32_avx2, cholesky_step_f32_avx2,
     feedback_targets_f32_avx2, feedback_round_f32_avx2,
     feedback_refine_f32_avx2, fit_f32_avx2, trellis_round_f32_avx2,
     multiply_of_avx_vnni, quantize_input_avx_vnni, quantize_input_static_avx_vnni,
     lt_multiply_of_avx_vnni, lt_transform_input_avx_vnni},
#endif
#if LOCALQ_BUILT_AVX2
    {"avx2", "AVX2 (Haswell, Zen and later)", bits(kAvx2, kFma, kF16c), dot_i8_avx2, argmax_f32_avx2,
     read_stream_avx2, gram_f32_avx2, cholesky_step_f32_avx2,
     feedback_targets_f32_avx2, feedback_round_f32_avx2,
     feedback_refine_f32_avx2, fit_f32_avx2, trellis_round_f32_avx2,
     multiply_of_avx2, quantize_input_avx2, quantize_input_static_avx2,
     lt_multiply_of_avx2, lt_transform_input_avx2},
#endif
#if LOCALQ_BUILT_NEON_I8MM
    {"neon_i8mm", "NEON with products of 8-bit matrices (Armv8.6 and later)", bits(kNeon, kDotprod, kI8mm),
     dot_i8_neon_dotprod, argmax_f32_neon_dotprod, read_stream_neon_dotprod, gram_f32_neon_dotprod,
     cholesky_step_f32_neon_dotprod, feedback_targets_f32_neon_dotprod, feedback_round_f32_neon_dotprod,
     feedback_refine_f32_neon_dotprod, fit_f32_neon_dotprod, trellis_round_f32_neon_dotprod,
     multiply_of_neon_i8mm, quantize_input_neon_i8mm, quantize_input_static_neon_i8mm,
     lt_multiply_of_neon_dotprod, lt_transform_input_neon_dotprod},
#endif
#if LOCALQ_BUILT_NEON_DOTPROD
    {"neon_dotprod", "NEON with dot product (Armv8.2 and later)", bits(kNeon, kDotprod), dot_i8_neon_dotprod,
     argmax_f32_neon_dotprod, read_stream_neon_dotprod, gram_f32_neon_dotprod, cholesky_step_f32_neon_dotprod,
     feedback_targets_f32_neon_dotprod, feedback_round_f32_neon_dotprod,
     feedback_refine_f32_neon_dotprod, fit_f32_neon_dotprod, trellis_round_f32_neon_dotprod,
     multiply_of_neon_dotprod, quantize_input_neon_dotprod, quantize_input_static_neon_dotprod,
     lt_multiply_of_neon_dotprod, lt_transform_input_neon_dotprod},
#endif
    {"scalar", "Portable C++, the reference", 0, dot_i8_scalar, argmax_f32_scalar, read_stream_scalar,
     gram_f32_scalar, cholesky_step_f32_scalar,
     feedback_targets_f32_scalar, feedback_round_f32_scalar,
     feedback_refine_f32_scalar, fit_f32_scalar, trellis_round_f32_scalar, multiply_of_scalar, quantize_input_scalar,
     quantize_input_static_scalar,
     lt_multiply_of_scalar, lt_transform_input_scalar},
};

bool runs_on(const localq_backend& backend, uint64_t features) {
  return (backend.required_features & ~features) == 0;
}

std::string names_of_backends_for(uint64_t features) {
  std::string names;
  for (const localq_backend& backend : kBackends) {
    if (!runs_on(backend, features)) continue;
    names += (names.empty() ? "" : ", ") + std::string(backend.name);
  }
  return names;
}

std::string names_of_features(uint64_t features) {
  std::string names;
  for (unsigned i = 0; i < kFeatureCount; ++i) {
    if ((features >> i) & 1) names += (names.empty() ? "" : ", ") + std::string(localq_feature_name(i));
  }
  return names;
}

struct Choice {
  const localq_backend* backend;
  std::string error;
};

Choice choose(uint64_t features, const char* forced) {
  const bool is_forced = forced != nullptr && *forced != '\0';
  for (const localq_backend& backend : kBackends) {
    if (is_forced ? strcmp(backend.name, forced) != 0 : !runs_on(backend, features)) continue;
    if (runs_on(backend, features)) return {&backend, ""};
    return {nullptr, std::string("LOCALQ_FORCE_ISA=") + forced + ": this processor lacks " +
                         names_of_features(backend.required_features & ~features) +
                         " (can run: " + names_of_backends_for(features) + ")"};
  }
  return {nullptr, std::string("LOCALQ_FORCE_ISA=") + forced + ": this build has no such kernels (have: " +
                       names_of_backends_for(~uint64_t{0}) + ")"};
}

const Choice& active() {
  static const Choice choice = choose(localq_cpu_features(), getenv("LOCALQ_FORCE_ISA"));
  return choice;
}

const localq_backend& active_or_die() {
  const Choice& choice = active();
  if (choice.backend == nullptr) {
    fprintf(stderr, "localq kernels: %s\n", choice.error.c_str());
    abort();
  }
  return *choice.backend;
}

}  // namespace
}  // namespace localq

uint32_t localq_abi_version(void) { return LOCALQ_ABI_VERSION; }

const localq_backend* localq_backend_at(size_t index) {
  constexpr size_t count = sizeof(localq::kBackends) / sizeof(localq::kBackends[0]);
  return index < count ? &localq::kBackends[index] : nullptr;
}

const localq_backend* localq_choose_backend(uint64_t features, const char* forced, char* error,
                                            size_t error_bytes) {
  const localq::Choice choice = localq::choose(features, forced);
  if (error_bytes > 0) snprintf(error, error_bytes, "%s", choice.error.c_str());
  return choice.backend;
}

const localq_backend* localq_active_backend(void) { return localq::active().backend; }

const char* localq_active_isa(void) {
  const localq_backend* backend = localq_active_backend();
  return backend != nullptr ? backend->name : nullptr;
}

const char* localq_dispatch_error(void) {
  const localq::Choice& choice = localq::active();
  return choice.backend == nullptr ? choice.error.c_str() : nullptr;
}

int64_t localq_dot_i8(const int8_t* a, const int8_t* b, size_t length) {
  return localq::active_or_die().dot_i8(a, b, length);
}

int64_t localq_argmax_f32(const float* values, size_t length) {
  return localq::active_or_die().argmax_f32(values, length);
}
