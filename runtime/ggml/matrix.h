// A weight matrix in strips, as ggml meets it: what computes the operations with it.
#pragma once

#include <vector>

#include "ggml_private.h"
#include "localq_ggml.h"
#include "localq_kernels.h"

namespace localq::hook {

// The kernels in use; set once, before the first matrix.
extern const localq_backend* kernels;

// Static scales of an input, and 1 over each; none where it gets its scales from its values.
struct InputScales {
  std::vector<float> scales, inverses;
};

struct Matrix final : ggml::cpu::tensor_traits {
  const localq_strip_layout* layout;  // NULL: in an LT format
  localq_multiply* multiply;
  size_t depth, rows, experts;
  const uint8_t* strips;  // of all experts, one behind the other
  size_t strip_rows, strip_bytes, input_bytes;
  localq_lt_input transform{};  // of LT formats, as the table
  const int8_t* table = nullptr;
  InputScales input_scales;

  Matrix(const localq_strip_layout* layout, size_t depth, size_t rows, size_t experts, const uint8_t* strips);
  explicit Matrix(const localq_ggml_matrix& own);

  size_t strip_count() const { return (rows + strip_rows - 1) / strip_rows; }
  size_t row_bytes() const { return strip_bytes / strip_rows; }  // not of LT formats, where strips have scales
  size_t expert_bytes() const { return strip_count() * strip_bytes; }
  const uint8_t* expert(size_t number) const { return strips + number * expert_bytes(); }
  size_t workspace_bytes(size_t columns) const;
  // How many static scales its input would have; not of LT formats.
  size_t input_scale_count() const { return depth / (layout->weights == 256 ? 256 : 32); }
  // `workspace`: of workspace_bytes() for any number of columns
  void quantize(const float* values, uint8_t* input, uint8_t* workspace) const;

  bool has_shape(const ggml_tensor* tensor) const {
    return static_cast<size_t>(tensor->ne[0]) == depth && static_cast<size_t>(tensor->ne[1]) == rows &&
           static_cast<size_t>(tensor->ne[2]) == experts && tensor->ne[3] == 1;
  }

  bool work_size(int threads, const ggml_tensor* op, size_t& size) override;
  bool compute_forward(ggml_compute_params* params, ggml_tensor* op) override;
};

// Whether a matrix can do what `op` wants of its first source.
bool supports(const ggml_tensor* op);

}  // namespace localq::hook
