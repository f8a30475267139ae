// The type of buffer that weights go to which our kernels multiply: packed while they are loaded.
#include "buffer.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "mapping.h"
#include "matrix.h"
#include "registry.h"

namespace localq::hook {

namespace {

constexpr size_t kHugePage = size_t{1} << 21;
// Below this, starting a thread takes longer than packing.
constexpr size_t kAloneBytes = size_t{1} << 20;
// Of a mapped file so much is packed before its pages are let go.
constexpr size_t kPieceBytes = size_t{1} << 22;
// Larger ones stay where the file is mapped.
constexpr size_t kPlainBytes = size_t{1} << 20;

std::atomic<uint64_t> packed_bytes{0};
std::atomic<bool> packs_embeddings{false}, reads_map{false};
uint32_t packing_threads = 1;

// Memory of one buffer, and the matrices in it.
struct Buffer {
  uint8_t* memory = nullptr;
  size_t bytes = 0;
  std::vector<std::unique_ptr<Matrix>> matrices;
};

Buffer& of(ggml_backend_buffer_t buffer) { return *static_cast<Buffer*>(buffer->context); }

void free_buffer(ggml_backend_buffer_t buffer) {
  Buffer* own = &of(buffer);
  if (own->bytes > 0) munmap(own->memory, own->bytes);
  packed_bytes -= own->bytes;
  delete own;
}

// An address that is not NULL even for the empty buffers that llama.cpp asks questions with.
void* get_base(ggml_backend_buffer_t buffer) {
  alignas(64) static uint8_t nowhere[64];
  return of(buffer).bytes > 0 ? of(buffer).memory : nowhere;
}

Matrix& matrix_of(const ggml_tensor* tensor) {
  return *static_cast<Matrix*>(static_cast<ggml::cpu::tensor_traits*>(tensor->extra));
}

// Whether a tensor's matrix is in a format of our own; before it has memory, by its name.
bool is_own(const ggml_tensor* tensor) {
  return tensor->extra ? matrix_of(tensor).layout == nullptr : is_registered(tensor);
}

// Norms, biases, a router: ggml computes with them as they are. They are here so that nothing of a mapped file is read
// once it is loaded, for Linux maps the whole large folio around a page that is read, and the matrices beside it.
bool is_plain(const ggml_tensor* tensor) {
  return tensor->type == GGML_TYPE_F32 && ggml_nbytes(tensor) <= kPlainBytes && !is_own(tensor);
}

ggml_status init_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor) {
  // supports() declines views of matrices
  if (tensor->view_src != nullptr || is_plain(tensor)) return GGML_STATUS_SUCCESS;
  std::unique_ptr<Matrix> matrix = take_registered(tensor);
  if (matrix != nullptr && !matrix->has_shape(tensor)) return GGML_STATUS_FAILED;
  if (matrix == nullptr) {
    matrix = std::make_unique<Matrix>(
        localq_strip_layout_of(static_cast<uint32_t>(tensor->type)), static_cast<size_t>(tensor->ne[0]),
        static_cast<size_t>(tensor->ne[1]), static_cast<size_t>(tensor->ne[2]), static_cast<uint8_t*>(tensor->data));
    matrix->input_scales = take_input_scales(tensor);
    const size_t count = matrix->input_scales.scales.size();
    if (count > 0 && count != matrix->input_scale_count()) return GGML_STATUS_FAILED;
  }
  tensor->extra = static_cast<ggml::cpu::tensor_traits*>(matrix.get());
  of(buffer).matrices.push_back(std::move(matrix));
  return GGML_STATUS_SUCCESS;
}

void pack(const Matrix& matrix, const uint8_t* rows, size_t first, size_t last, uint8_t* strips) {
  const size_t count = last - first;
  const size_t threads = count * LOCALQ_STRIP_ROWS * matrix.row_bytes() < kAloneBytes
                             ? 1
                             : std::min<size_t>(packing_threads, std::max<size_t>(count, 1));
  const auto share = [&](size_t i) {
    localq_pack_strips(matrix.layout->ggml_type, rows, matrix.rows, matrix.depth, first + count * i / threads,
                       first + count * (i + 1) / threads, strips);
  };
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < threads; ++i) helpers.emplace_back(share, i);
  share(0);
  for (std::thread& helper : helpers) helper.join();
}

void pack_all(const Matrix& matrix, const uint8_t* rows, uint8_t* strips) {
  if (!reads_map) return pack(matrix, rows, 0, matrix.strip_count(), strips);
  const size_t strip_bytes = LOCALQ_STRIP_ROWS * matrix.row_bytes(), plain = matrix.rows * matrix.row_bytes();
  const size_t piece = std::max<size_t>(1, kPieceBytes / strip_bytes);
  for (size_t first = 0; first < matrix.strip_count(); first += piece) {
    const size_t last = std::min(first + piece, matrix.strip_count());
    pack(matrix, rows, first, last, strips);
    let_go(rows + std::min(last * strip_bytes, plain));
  }
}

void set_tensor(ggml_backend_buffer_t, ggml_tensor* tensor, const void* data, size_t offset, size_t size) {
  if (is_plain(tensor)) {
    memcpy(static_cast<uint8_t*>(tensor->data) + offset, data, size);
    if (reads_map) let_go(static_cast<const uint8_t*>(data) + size);
    return;
  }
  const Matrix& matrix = matrix_of(tensor);
  if (matrix.layout == nullptr) return;  // its data lies elsewhere
  const size_t plain = matrix.rows * matrix.row_bytes();
  // llama.cpp sets whole tensors, or whole experts
  GGML_ASSERT(offset % plain == 0 && size % plain == 0);
  const uint8_t* rows = static_cast<const uint8_t*>(data);
  for (size_t e = offset / plain; e < (offset + size) / plain; ++e, rows += plain) {
    pack_all(matrix, rows, static_cast<uint8_t*>(tensor->data) + e * matrix.expert_bytes());
  }
}

void get_tensor(ggml_backend_buffer_t, const ggml_tensor* tensor, void* data, size_t offset, size_t size) {
  if (is_plain(tensor)) {
    memcpy(data, static_cast<const uint8_t*>(tensor->data) + offset, size);
    return;
  }
  const Matrix& matrix = matrix_of(tensor);
  GGML_ASSERT(matrix.layout != nullptr);  // ggml has no type for its rows
  const size_t row_bytes = matrix.row_bytes();
  GGML_ASSERT(offset % row_bytes == 0 && size % row_bytes == 0);
  uint8_t* to = static_cast<uint8_t*>(data);
  for (size_t row = offset / row_bytes; row < (offset + size) / row_bytes; ++row, to += row_bytes) {
    localq_unpack_row(matrix.layout->ggml_type, matrix.expert(row / matrix.rows), matrix.depth, row % matrix.rows,
                      to);
  }
}

void clear(ggml_backend_buffer_t buffer, uint8_t value) { memset(of(buffer).memory, value, of(buffer).bytes); }

const char* get_name(ggml_backend_buffer_type_t) { return "localq"; }

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
  static const ggml_backend_buffer_i kInterface = {free_buffer, get_base,   init_tensor, nullptr, set_tensor, get_tensor,
                                                   nullptr,     nullptr,    nullptr,     clear,   nullptr};
  Buffer* buffer = new Buffer;
  if (size > 0) {
    const size_t bytes = (size + kHugePage - 1) / kHugePage * kHugePage;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      delete buffer;
      return nullptr;  // llama.cpp says that it could not allocate
    }
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: fewer address translations
#endif
    buffer->memory = static_cast<uint8_t*>(memory);
    buffer->bytes = bytes;
    packed_bytes += bytes;
  }
  return ggml_backend_buffer_init(type, kInterface, buffer, size);
}

size_t get_alignment(ggml_backend_buffer_type_t) { return 64; }

size_t get_alloc_size(ggml_backend_buffer_type_t, const ggml_tensor* tensor) {
  if (is_own(tensor)) return 64;  // ggml wants an address of its own for each
  if (is_plain(tensor)) return ggml_nbytes(tensor);
  const size_t rows = (static_cast<size_t>(tensor->ne[1]) + LOCALQ_STRIP_ROWS - 1) / LOCALQ_STRIP_ROWS *
                      LOCALQ_STRIP_ROWS;
  return rows * ggml_row_size(tensor->type, tensor->ne[0]) * static_cast<size_t>(tensor->ne[2]);
}

bool is_here(const ggml_tensor* tensor) {
  return tensor != nullptr && tensor->buffer != nullptr && tensor->buffer->buft == buffer_type();
}

struct ExtraType final : ggml::cpu::extra_buffer_type {
  bool supports_op(ggml_backend_dev_t, const ggml_tensor* op) override {
    for (const ggml_tensor* source : op->src) {
      if (is_here(source) && is_plain(source)) return true;
    }
    const ggml_tensor* weights = op->src[0];
    if (!is_here(weights)) return false;
    if (is_own(weights)) {
      if (op->op == GGML_OP_GET_ROWS) return false;
    } else {
      if (kernels->multiply_of(static_cast<uint32_t>(weights->type)) == nullptr) return false;
      if (op->op == GGML_OP_GET_ROWS && !packs_embeddings) return false;
    }
    return supports(op);
  }
  ggml::cpu::tensor_traits* get_tensor_traits(const ggml_tensor* op) override {
    const ggml_tensor* weights = op->src[0];
    const bool ours = is_here(weights) && (op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID ||
                                           op->op == GGML_OP_GET_ROWS);
    return ours ? static_cast<ggml::cpu::tensor_traits*>(weights->extra) : nullptr;
  }
};

}  // namespace

ggml_backend_buffer_type_t buffer_type() {
  // never freed: ggml keeps the address until the process ends
  static ggml_backend_buffer_type* const type = new ggml_backend_buffer_type{
      {get_name, alloc_buffer, get_alignment, nullptr, get_alloc_size, nullptr},
      ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU),
      static_cast<ggml::cpu::extra_buffer_type*>(new ExtraType)};
  return type;
}

void pack_with(uint32_t threads) { packing_threads = std::max(1u, threads); }
void load_with(bool embeddings, bool mapped) {
  packs_embeddings = embeddings;
  reads_map = mapped;
}
uint64_t bytes_packed() { return packed_bytes; }

}  // namespace localq::hook
