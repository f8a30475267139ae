// What is known of tensors by their names before a model is loaded: matrices in formats of our own, whose data the
// caller has mapped, and static scales of inputs.
#pragma once

#include <memory>

#include "matrix.h"

namespace localq::hook {

bool is_registered(const ggml_tensor* tensor);

// The tensor's matrix over the registered data, which counts as taken; NULL for a tensor that is not registered.
std::unique_ptr<Matrix> take_registered(const ggml_tensor* tensor);

// The static scales of the tensor's input, which then count as taken; none for a tensor that has none.
InputScales take_input_scales(const ggml_tensor* tensor);

}  // namespace localq::hook
