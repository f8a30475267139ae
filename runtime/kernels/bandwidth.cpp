// How fast this machine reads memory: the ceiling of decoding, which reads every weight once for each token.
//
// Each thread maps its own share, touches it first (so it lies on that thread's node) and reads it over and
// over as one sequential stream, with the widest loads that the active backend has. The reader's progress is
// sampled every window of 20 ms; the result is the best window's bytes over its wall time. The best, as in
// STREAM (McCalpin 1995): other work on the machine can only slow a window down. Huge pages are asked for: a
// ceiling should not contain the page walks of a particular mapping.
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "localq_kernels.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kChunk = size_t{1} << 18;  // progress is told after each: 0.05 % of a window at 25 GB/s
constexpr size_t kHugePage = size_t{1} << 21;
constexpr double kWindowSeconds = 0.02;
constexpr double kBadArgument = -1, kNoMemory = -2, kNoThreads = -3;

// On a cache line of its own: a reader writes it while the others read theirs.
struct alignas(128) Reader {
  std::atomic<uint64_t> bytes_read{0};
  uint64_t checksum = 0;  // keeps the loads alive
};

struct Shared {
  const localq_backend* backend;
  size_t share_bytes;
  std::atomic<uint32_t> ready{0};
  std::atomic<bool> out_of_memory{false};
  std::atomic<bool> go{false};
  std::atomic<bool> stop{false};
};

void touch(uint64_t* words, size_t bytes) {
  for (size_t i = 0; i < bytes / sizeof(uint64_t); ++i) words[i] = i;
}

void read_share(Shared& shared, Reader& reader) {
  void* share = mmap(nullptr, shared.share_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (share == MAP_FAILED) {
    shared.out_of_memory = true;
    ++shared.ready;
    return;
  }
#ifdef MADV_HUGEPAGE
  madvise(share, shared.share_bytes, MADV_HUGEPAGE);  // a wish: small pages are as correct
#endif
  touch(static_cast<uint64_t*>(share), shared.share_bytes);
  ++shared.ready;
  while (!shared.go && !shared.stop) std::this_thread::yield();
  const char* bytes = static_cast<const char*>(share);
  uint64_t total = 0, checksum = 0;
  for (size_t offset = 0; !shared.stop.load(std::memory_order_relaxed);) {
    checksum += shared.backend->read_stream(bytes + offset, kChunk);
    reader.bytes_read.store(total += kChunk, std::memory_order_relaxed);
    offset = offset + kChunk < shared.share_bytes ? offset + kChunk : 0;
  }
  reader.checksum = checksum;
  munmap(share, shared.share_bytes);
}

uint64_t bytes_read_by(const std::unique_ptr<Reader[]>& readers, uint32_t count) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < count; ++i) sum += readers[i].bytes_read.load(std::memory_order_relaxed);
  return sum;
}

double best_window(const std::unique_ptr<Reader[]>& readers, uint32_t count, double seconds) {
  const auto now_seconds = [] {
    return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
  };
  double best = 0, before = now_seconds();
  uint64_t bytes_before = bytes_read_by(readers, count);
  for (const double end = before + seconds; before < end;) {
    std::this_thread::sleep_for(std::chrono::duration<double>(kWindowSeconds));
    const double now = now_seconds();
    const uint64_t bytes_now = bytes_read_by(readers, count);
    const double rate = static_cast<double>(bytes_now - bytes_before) / (now - before);
    best = rate > best ? rate : best;
    before = now;
    bytes_before = bytes_now;
  }
  return best;
}

double measure(const localq_backend& backend, uint32_t threads, uint64_t bytes, double seconds) {
  Shared shared{&backend, (bytes / threads + kHugePage - 1) / kHugePage * kHugePage};
  const std::unique_ptr<Reader[]> readers(new Reader[threads]);
  std::vector<std::thread> running;
  running.reserve(threads);
  double result = kNoThreads;
  try {
    for (uint32_t i = 0; i < threads; ++i) {
      running.emplace_back(read_share, std::ref(shared), std::ref(readers[i]));
    }
    while (shared.ready < threads) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    shared.go = true;
    result = shared.out_of_memory ? kNoMemory : best_window(readers, threads, seconds);
  } catch (const std::system_error&) {  // a thread could not be started: end those that were
  }
  shared.stop = true;
  for (std::thread& thread : running) thread.join();
  return result;
}

}  // namespace

double localq_read_bandwidth(uint32_t threads, uint64_t bytes, double seconds) {
  const localq_backend* backend = localq_active_backend();
  const bool valid = backend != nullptr && threads >= 1 && threads <= 4096 && bytes >= kChunk &&
                     bytes <= (uint64_t{1} << 46) && seconds > 0 && seconds <= 3600;
  if (!valid) return kBadArgument;
  try {
    return measure(*backend, threads, bytes, seconds);
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  }
}
