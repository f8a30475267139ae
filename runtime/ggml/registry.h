// Matrices in formats of our own: data that the caller has mapped, known by the tensor's name.
#pragma once

#include <memory>

#include "matrix.h"

namespace localq::hook {

bool is_registered(const ggml_tensor* tensor);

// The tensor's matrix over the registered data, which counts as taken; NULL for a tensor that is not registered.
std::unique_ptr<Matrix> take_registered(const ggml_tensor* tensor);

}  // namespace localq::hook
