#include "mapping.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace localq::hook {

namespace {

// More than Linux's largest folio and the largest piece that is packed at once.
constexpr uintptr_t kBackBytes = uintptr_t{1} << 25;

struct Mapping {
  uintptr_t begin = 0, end = 0;
};

// The file mapping that an address is in; empty where it is in none. Other memory must never be let go of.
Mapping mapping_of(uintptr_t address) {
  Mapping found;
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) return found;
  char line[4352], mode[8], path[2];
  while (found.end == 0 && fgets(line, sizeof line, maps) != nullptr) {
    Mapping each;
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s %*s %*s %*s %1s", &each.begin, &each.end, mode, path) == 4 &&
        each.begin < address && address <= each.end && mode[0] == 'r' && mode[1] == '-' && path[0] == '/') {
      found = each;
    }
  }
  fclose(maps);
  return found;
}

}  // namespace

void let_go(const uint8_t* end) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(end);
  const Mapping mapping = mapping_of(address);  // looked up each time: what was mapped may be something else by now
  if (mapping.end == 0) return;
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t last = address / page * page;
  const uintptr_t first = std::max(mapping.begin, last > kBackBytes ? last - kBackBytes : 0);
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace localq::hook
