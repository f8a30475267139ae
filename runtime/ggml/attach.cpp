// Attaching to ggml: compare versions, put the buffer type first, multiply once and compare.
#include <math.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "buffer.h"
#include "localq_ggml.h"
#include "matrix.h"

namespace localq::hook {

namespace {

constexpr int64_t kSize = 64, kColumns = 3;
constexpr float kScale = 0.25f;

// A 64x64 product through ggml and the hook against float64: what is wrong with it, or "".
std::string self_test() {
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> weights(
      ggml_init({ggml_tensor_overhead(), nullptr, true}), ggml_free);
  const std::unique_ptr<ggml_context, decltype(&ggml_free)> graph_context(
      ggml_init({ggml_tensor_overhead() * 8 + ggml_graph_overhead() + 64 * 1024, nullptr, false}), ggml_free);
  const std::unique_ptr<ggml_backend, decltype(&ggml_backend_free)> processor(ggml_backend_cpu_init(),
                                                                               ggml_backend_free);
  if (!weights || !graph_context || !processor) return "ggml could not make a context";
  ggml_backend_cpu_set_n_threads(processor.get(), 2);

  ggml_tensor* matrix = ggml_new_tensor_2d(weights.get(), GGML_TYPE_Q8_0, kSize, kSize);
  const std::unique_ptr<ggml_backend_buffer, decltype(&ggml_backend_buffer_free)> buffer(
      ggml_backend_alloc_ctx_tensors_from_buft(weights.get(), buffer_type()), ggml_backend_buffer_free);
  if (!buffer) return "no buffer for weights";
  std::vector<uint8_t> data(ggml_nbytes(matrix));
  const auto code = [](int64_t row, int64_t k) { return static_cast<int8_t>((row * 37 + k * 11) % 255 - 127); };
  for (int64_t row = 0; row < kSize; ++row) {
    for (int64_t block = 0; block < kSize / 32; ++block) {
      uint8_t* at = data.data() + (row * kSize / 32 + block) * 34;
      const ggml_fp16_t scale = ggml_fp32_to_fp16(kScale);
      memcpy(at, &scale, sizeof scale);
      for (int64_t k = 0; k < 32; ++k) at[2 + k] = static_cast<uint8_t>(code(row, block * 32 + k));
    }
  }
  ggml_backend_tensor_set(matrix, data.data(), 0, data.size());

  ggml_tensor* input = ggml_new_tensor_2d(graph_context.get(), GGML_TYPE_F32, kSize, kColumns);
  float* values = static_cast<float*>(input->data);
  // every block's largest is 127 times a power of two, so that its bytes are exact
  for (int64_t i = 0; i < kSize * kColumns; ++i) {
    values[i] = 0.5f * static_cast<float>(i % 32 == 0 ? 127 : i * 29 % 253 - 126);
  }
  ggml_tensor* product = ggml_mul_mat(graph_context.get(), matrix, input);
  ggml_cgraph* graph = ggml_new_graph(graph_context.get());
  ggml_build_forward_expand(graph, product);
  if (!ggml_backend_dev_supports_op(buffer_type()->device, product)) return "ggml does not see the kernels";
  if (ggml_backend_graph_compute(processor.get(), graph) != GGML_STATUS_SUCCESS) return "ggml could not compute";
  for (int64_t column = 0; column < kColumns; ++column) {
    for (int64_t row = 0; row < kSize; ++row) {
      double wanted = 0;
      for (int64_t k = 0; k < kSize; ++k) wanted += double{kScale} * code(row, k) * double{values[column * kSize + k]};
      const double got = double{static_cast<const float*>(product->data)[column * kSize + row]};
      if (!(fabs(got - wanted) <= 1e-3 * (1 + fabs(wanted)))) return "the self-test gave a wrong result";
    }
  }
  return "";
}

std::string attach() {
  if (strcmp(ggml_version(), LOCALQ_GGML_VERSION) != 0) {
    return std::string("ggml ") + ggml_version() + " is not " LOCALQ_GGML_VERSION ", which the kernels are made for";
  }
  kernels = localq_active_backend();
  if (kernels == nullptr) return localq_dispatch_error();
  std::vector<ggml_backend_buffer_type_t>& types = ggml_backend_cpu_get_extra_buffer_types();
  types.insert(types.begin(), buffer_type());
  std::string wrong = self_test();
  if (!wrong.empty()) types.erase(std::find(types.begin(), types.end(), buffer_type()));
  return wrong;
}

}  // namespace

}  // namespace localq::hook

uint32_t localq_ggml_abi_version(void) { return LOCALQ_GGML_ABI_VERSION; }

const char* localq_ggml_attach(uint32_t threads) {
  static const std::string wrong = localq::hook::attach();
  localq::hook::pack_with(threads);
  return wrong.empty() ? nullptr : wrong.c_str();
}

void localq_ggml_load_with(bool embeddings, bool mapped) { localq::hook::load_with(embeddings, mapped); }

uint64_t localq_ggml_packed_bytes(void) { return localq::hook::bytes_packed(); }
