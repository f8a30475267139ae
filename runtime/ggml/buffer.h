// The type of buffer that weights go to which our kernels multiply.
#pragma once

#include "ggml_private.h"

namespace localq::hook {

ggml_backend_buffer_type_t buffer_type();

void pack_with(uint32_t threads);
void load_with(bool embeddings, bool mapped);
uint64_t bytes_packed();

}  // namespace localq::hook
