// Memory for the native checks.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace {

// Memory that ends at a page that faults; its end is a multiple of 64 bytes.
class Guarded {
 public:
  explicit Guarded(size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_ = (bytes + page - 1) / page * page;
    void* mapped = mmap(nullptr, size_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) abort();
    begin_ = static_cast<uint8_t*>(mapped);
    if (mprotect(begin_ + size_, page, PROT_NONE) != 0) abort();
  }
  // The last `bytes` bytes.
  uint8_t* last(size_t bytes) {
    if (bytes > size_) abort();
    return begin_ + size_ - bytes;
  }

 private:
  uint8_t* begin_;
  size_t size_;
};

}  // namespace
