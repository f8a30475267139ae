// The native self-check: every kernel of every instruction set that this processor runs, against a plain
// reference, on buffers that end (or begin) at a page that may not be touched. Built by CMake's
// LOCALQ_CHECKS, which LOCALQ_SANITIZE implies; runs under qemu-user too. Prints one line an instruction set;
// exit code 1 on a mismatch.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "localq_kernels.h"

bool check_blocks();                           // kernels_check_blocks.cpp
bool check_fit(const localq_backend& backend);  // kernels_check_fit.cpp
bool check_feedback(const localq_backend& backend);  // kernels_check_feedback.cpp
bool check_trellis(const localq_backend& backend);   // kernels_check_trellis.cpp
bool check_products(size_t cases, uint64_t seed);     // kernels_check_products.cpp
bool check_lt(size_t cases, uint64_t seed);           // kernels_check_lt.cpp

namespace {

// Memory between two pages that fault. `last(n)` ends at the upper one, `first()` begins at the lower one.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_ = (bytes + page - 1) / page * page;
    void* mapped = mmap(nullptr, size_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) abort();
    begin_ = static_cast<char*>(mapped) + page;
    if (mprotect(begin_, size_, PROT_READ | PROT_WRITE) != 0) abort();
  }
  char* first() { return begin_; }
  char* last(size_t bytes) { return begin_ + size_ - bytes; }

 private:
  char* begin_;
  size_t size_;
};

constexpr size_t kLongest = 70000;  // more than two blocks of any kernel
const size_t kLengths[] = {0,    1,    2,    7,    15,   16,   17,        31,    32,    33,    48,
                           63,   64,   65,   97,   127,  128,  129,       255,   576,   640,   1023,
                           1024, 1025, 1536, 2047, 2048, 2049, 4096 + 64, 32767, 32768, 32769, kLongest};
std::mt19937_64 random_bits(20240607);
int failures = 0;

void expect(bool same, const localq_backend& backend, const char* kernel, size_t length, long long got,
            long long wanted) {
  if (same) return;
  ++failures;
  printf("%s %s length %zu: got %lld, wanted %lld\n", backend.name, kernel, length, got, wanted);
}

int64_t plain_dot(const int8_t* a, const int8_t* b, size_t length) {
  int64_t sum = 0;
  for (size_t i = 0; i < length; ++i) sum += int64_t{a[i]} * int64_t{b[i]};
  return sum;
}

void check_dot(const localq_backend& backend) {
  GuardedBytes memory_a(kLongest + 64), memory_b(kLongest + 64);
  for (const size_t length : kLengths) {
    // Ending at the guard, beginning at it, and beginning at every offset modulo a vector.
    for (size_t place = 0; place < 66; ++place) {
      if (place > 1 && length > 5000) break;
      char* base_a = place == 0 ? memory_a.last(length) : memory_a.first() + (place - 1);
      char* base_b = place == 0 ? memory_b.last(length) : memory_b.first() + (place * 7 % 64);
      int8_t* a = reinterpret_cast<int8_t*>(base_a);
      int8_t* b = reinterpret_cast<int8_t*>(base_b);
      for (size_t i = 0; i < length; ++i) {
        a[i] = static_cast<int8_t>(random_bits());
        b[i] = static_cast<int8_t>(random_bits());
      }
      int64_t got = backend.dot_i8(a, b, length), wanted = plain_dot(a, b, length);
      expect(got == wanted, backend, "dot_i8", length, got, wanted);
      if (length > 0) memset(a, -128, length), memset(b, place % 2 ? 127 : -128, length);
      got = backend.dot_i8(a, b, length), wanted = plain_dot(a, b, length);
      expect(got == wanted, backend, "dot_i8 of extremes", length, got, wanted);
    }
  }
}

int64_t plain_argmax(const float* values, size_t length) {
  int64_t best = -1;
  for (size_t i = 0; i < length; ++i) {
    if (std::isnan(values[i])) continue;
    if (best < 0 || values[i] > values[best]) best = static_cast<int64_t>(i);
  }
  return best;
}

void check_argmax(const localq_backend& backend) {
  GuardedBytes memory((kLongest + 16) * sizeof(float));
  const float specials[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-45f, -1.0f, 3.4e38f};
  for (const size_t length : kLengths) {
    for (int round = 0; round < 24; ++round) {
      char* base =
          round % 2 ? memory.first() + round / 2 * sizeof(float) : memory.last(length * sizeof(float));
      float* values = reinterpret_cast<float*>(base);
      const uint64_t kind = random_bits() % 4;
      for (size_t i = 0; i < length; ++i) {
        const uint64_t bits = random_bits();
        const uint32_t pattern = static_cast<uint32_t>(bits);
        if (kind == 0) memcpy(values + i, &pattern, sizeof pattern);  // any float, NaN and Inf among them
        if (kind == 1) values[i] = static_cast<float>(bits % 5);      // many equals
        if (kind == 2) values[i] = specials[bits % 8];
        if (kind == 3) values[i] = bits % 3 ? NAN : -INFINITY;
      }
      const int64_t got = backend.argmax_f32(values, length), wanted = plain_argmax(values, length);
      expect(got == wanted, backend, "argmax_f32", length, got, wanted);
    }
  }
}

void check_read(const localq_backend& backend) {
  const size_t bytes = size_t{1} << 16;
  GuardedBytes memory(bytes);
  for (size_t length = 1024; length <= bytes; length *= 2) {
    uint64_t wanted = 0;
    uint64_t* start = reinterpret_cast<uint64_t*>(memory.last(length));
    for (size_t i = 0; i < length / 8; ++i) wanted += start[i] = random_bits();
    const uint64_t got = backend.read_stream(start, length);
    expect(got == wanted, backend, "read_stream", length, static_cast<long long>(got),
           static_cast<long long>(wanted));
  }
}

}  // namespace

// With a number, and a seed: only products, as many random shapes of each type.
int main(int count, char** words) {
  const auto number = [&](int i) { return i < count ? strtoul(words[i], nullptr, 10) : 0; };
  if (count > 1) return check_products(number(1), number(2)) ? 0 : 1;
  const uint64_t features = localq_cpu_features();
  for (size_t i = 0; const localq_backend* backend = localq_backend_at(i); ++i) {
    if (backend->required_features & ~features) {
      printf("%s: this processor lacks it\n", backend->name);
      continue;
    }
    const int before = failures;
    check_dot(*backend);
    check_argmax(*backend);
    check_read(*backend);
    if (!check_fit(*backend)) ++failures;
    if (!check_feedback(*backend)) ++failures;
    if (!check_trellis(*backend)) ++failures;
    printf("%s: %s\n", backend->name, failures == before ? "ok" : "FAILED");
  }
  if (!check_blocks()) ++failures;
  if (!check_products(200, 0)) ++failures;
  if (!check_lt(40, 0)) ++failures;
  int32_t flag = 0;
  if (localq_abort_requested(&flag) || localq_abort_requested(nullptr)) ++failures;
  flag = 1;
  if (!localq_abort_requested(&flag)) ++failures;
  const double rate = localq_read_bandwidth(2, uint64_t{8} << 20, 0.05);
  if (!(rate > 0) || localq_read_bandwidth(0, uint64_t{8} << 20, 0.05) != -1) ++failures;
  const char* active = localq_active_isa();
  printf("active: %s\n", active != nullptr ? active : localq_dispatch_error());
  return failures == 0 ? 0 : 1;
}
