#include "registry.h"

#include <mutex>
#include <unordered_map>

#include "localq_ggml.h"

namespace localq::hook {

namespace {

struct Registered {
  const localq_strip_layout* layout;
  size_t rows, depth, experts;
  const uint8_t* strips;
};

std::mutex mutex;
std::unordered_map<std::string, Registered> registered;

}  // namespace

bool is_registered(const ggml_tensor* tensor) {
  const std::lock_guard<std::mutex> lock(mutex);
  return registered.count(tensor->name) > 0;
}

std::unique_ptr<Matrix> find_registered(const ggml_tensor* tensor) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = registered.find(tensor->name);
  if (found == registered.end()) return nullptr;
  const Registered& own = found->second;
  return std::make_unique<Matrix>(own.layout, own.depth, own.rows, own.experts, own.strips);
}

}  // namespace localq::hook

bool localq_ggml_register(const char* name, uint32_t ggml_type, uint64_t rows, uint64_t depth, uint64_t experts,
                          const void* strips, uint64_t bytes) {
  using namespace localq::hook;
  const localq_strip_layout* layout = localq_strip_layout_of(ggml_type);
  if (layout == nullptr || kernels == nullptr || kernels->multiply_of(ggml_type) == nullptr) return false;
  if (rows == 0 || depth == 0 || depth % layout->weights != 0 || experts == 0) return false;
  const Matrix matrix(layout, depth, rows, experts, static_cast<const uint8_t*>(strips));
  if (reinterpret_cast<uintptr_t>(strips) % 64 != 0 || bytes != matrix.expert_bytes() * experts) return false;
  const std::lock_guard<std::mutex> lock(mutex);
  registered[name] = {layout, rows, depth, experts, matrix.strips};
  return true;
}

void localq_ggml_forget_all(void) {
  const std::lock_guard<std::mutex> lock(localq::hook::mutex);
  localq::hook::registered.clear();
}
