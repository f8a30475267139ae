// Sources: Intel SDM vol. 2A CPUID and vol. 1 chapter 13 (XCR0); Linux Documentation/arch/arm64/elf_hwcaps.
#include "cpu/features.h"

#include "localq_kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace localq {

#if defined(__x86_64__)

namespace {

struct CpuidRegisters {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero when the processor does not know the leaf.
CpuidRegisters cpuid(unsigned leaf, unsigned subleaf) {
  CpuidRegisters r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

// Register state that the operating system saves on a context switch. Needs OSXSAVE.
uint64_t enabled_register_state() {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

constexpr bool has(unsigned value, unsigned position) { return (value >> position) & 1; }

}  // namespace

uint64_t detect_features() {
  const CpuidRegisters basic = cpuid(1, 0);
  const CpuidRegisters extended = cpuid(7, 0);
  // Sub-leaf 1 exists only when sub-leaf 0 says so; otherwise the registers may hold anything.
  const CpuidRegisters extended1 = extended.eax >= 1 ? cpuid(7, 1) : CpuidRegisters{};

  constexpr uint64_t kXmmYmm = 0x6, kOpmaskZmm = 0xE0, kTiles = 0x60000;
  const uint64_t state = has(basic.ecx, 27) ? enabled_register_state() : 0;
  const bool avx_state = (state & kXmmYmm) == kXmmYmm;
  const bool avx512_state = avx_state && (state & kOpmaskZmm) == kOpmaskZmm;
  const bool tile_state = (state & kTiles) == kTiles;

  uint64_t found = 0;
  const auto add = [&found](bool present, Feature feature) { found |= present ? bit(feature) : 0; };
  add(has(basic.ecx, 20), kSse42);
  add(has(extended.ebx, 8), kBmi2);
  add(has(extended.ecx, 8), kGfni);
  add(avx_state && has(basic.ecx, 28), kAvx);
  add(avx_state && has(basic.ecx, 12), kFma);
  add(avx_state && has(basic.ecx, 29), kF16c);
  add(avx_state && has(extended.ebx, 5), kAvx2);
  add(avx_state && has(extended1.eax, 4), kAvxVnni);
  add(avx512_state && has(extended.ebx, 16), kAvx512f);
  add(avx512_state && has(extended.ebx, 17), kAvx512dq);
  add(avx512_state && has(extended.ebx, 30), kAvx512bw);
  add(avx512_state && has(extended.ebx, 31), kAvx512vl);
  add(avx512_state && has(extended.ecx, 1), kAvx512Vbmi);
  add(avx512_state && has(extended.ecx, 11), kAvx512Vnni);
  add(avx512_state && has(extended1.eax, 5), kAvx512Bf16);
  // Linux hands the tiles out only after arch_prctl(ARCH_REQ_XCOMP_PERM): a kernel has to ask for them
  // itself.
  add(tile_state && has(extended.edx, 25), kAmxInt8);
  return found;
}

#elif defined(__aarch64__)

uint64_t detect_features() {
  uint64_t found = bit(kNeon);  // part of the ABI
#if defined(__linux__)
  constexpr unsigned long kHwcapAsimdDp = 1ul << 20, kHwcapSve = 1ul << 22, kHwcap2I8mm = 1ul << 13;
  const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
  found |= (hwcap & kHwcapAsimdDp) ? bit(kDotprod) : 0;
  found |= (hwcap & kHwcapSve) ? bit(kSve) : 0;
  found |= (hwcap2 & kHwcap2I8mm) ? bit(kI8mm) : 0;
#endif
  return found;
}

#else

uint64_t detect_features() { return 0; }

#endif

}  // namespace localq

uint64_t localq_cpu_features(void) {
  static const uint64_t features = localq::detect_features();
  return features;
}

const char* localq_feature_name(size_t index) {
  static const char* const names[] = {
#define LOCALQ_FEATURE_NAME(id, name) name,
      LOCALQ_CPU_FEATURES(LOCALQ_FEATURE_NAME)
#undef LOCALQ_FEATURE_NAME
  };
  return index < localq::kFeatureCount ? names[index] : nullptr;
}
