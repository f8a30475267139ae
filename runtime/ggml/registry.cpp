#include "registry.h"

#include <math.h>

#include <mutex>
#include <string>
#include <unordered_map>

#include "localq_ggml.h"

namespace localq::hook {

namespace {

struct Registered {
  localq_ggml_matrix matrix;
  bool taken;
};

std::mutex mutex;
std::unordered_map<std::string, Registered> registered;

struct Scaled {
  InputScales scales;
  bool taken;
};

std::unordered_map<std::string, Scaled> scaled;

}  // namespace

bool is_registered(const ggml_tensor* tensor) {
  const std::lock_guard<std::mutex> lock(mutex);
  return registered.count(tensor->name) > 0;
}

std::unique_ptr<Matrix> take_registered(const ggml_tensor* tensor) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = registered.find(tensor->name);
  if (found == registered.end()) return nullptr;
  found->second.taken = true;
  return std::make_unique<Matrix>(found->second.matrix);
}

InputScales take_input_scales(const ggml_tensor* tensor) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = scaled.find(tensor->name);
  if (found == scaled.end()) return {};
  found->second.taken = true;
  return found->second.scales;
}

}  // namespace localq::hook

bool localq_ggml_register(const char* name, const localq_ggml_matrix* own) {
  using namespace localq::hook;
  if (kernels == nullptr || kernels->lt_multiply_of(own->bits, own->state_bits) == nullptr) return false;
  if (own->rows == 0 || own->depth == 0 || own->depth % 64 != 0 || own->experts == 0) return false;
  if (reinterpret_cast<uintptr_t>(own->strips) % 64 != 0) return false;
  if (own->bytes != Matrix(*own).expert_bytes() * own->experts) return false;
  const std::lock_guard<std::mutex> lock(mutex);
  registered[name] = {*own, false};
  return true;
}

uint64_t localq_ggml_forget_all(void) {
  const std::lock_guard<std::mutex> lock(localq::hook::mutex);
  uint64_t taken = 0;
  for (const auto& each : localq::hook::registered) taken += each.second.taken;
  localq::hook::registered.clear();
  return taken;
}

bool localq_ggml_scale_input(const char* name, const float* scales, uint64_t count) {
  using namespace localq::hook;
  Scaled found{};
  for (uint64_t i = 0; i < count; ++i) {
    const float inverse = 1.0f / scales[i];
    if (!(scales[i] > 0.0f) || !isfinite(scales[i]) || !isfinite(inverse)) return false;
    found.scales.scales.push_back(scales[i]);
    found.scales.inverses.push_back(inverse);
  }
  const std::lock_guard<std::mutex> lock(mutex);
  scaled[name] = std::move(found);
  return true;
}

uint64_t localq_ggml_forget_input_scales(void) {
  const std::lock_guard<std::mutex> lock(localq::hook::mutex);
  uint64_t taken = 0;
  for (const auto& each : localq::hook::scaled) taken += each.second.taken;
  localq::hook::scaled.clear();
  return taken;
}
