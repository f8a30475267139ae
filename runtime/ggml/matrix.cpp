// MUL_MAT, MUL_MAT_ID and GET_ROWS with a matrix in strips, on every thread of ggml's pool.
//
// A product has two phases: the input's columns become bytes, then each thread multiplies strips, chunk after chunk,
// until none is left: a core that is slower, or interrupted, takes fewer chunks of a large matrix. Where quantizing is
// short, every thread quantizes all columns for itself and no thread waits; otherwise they share it and meet once.
#include "matrix.h"

#include <string.h>

#include <algorithm>

namespace localq::hook {

const localq_backend* kernels = nullptr;

namespace {

// Floats that a thread quantizes in about the time that threads need to meet.
constexpr size_t kAloneAtMost = 16384;

constexpr size_t up_to_line(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Chunks of a matrix for each thread, on average, and from how many bytes on: below, threads take equal shares.
constexpr size_t kChunksEach = 4, kChunkedFrom = size_t{1} << 20;

// Part `i` of `parts` of `count` things: [first, last).
struct Share {
  size_t first, last;
  Share(size_t count, size_t i, size_t parts) : first(count * i / parts), last(count * (i + 1) / parts) {}
  Share(size_t count, const ggml_compute_params& params)
      : Share(count, static_cast<size_t>(params.ith), static_cast<size_t>(params.nth)) {}
};

// How many chunks of an operation were taken. ggml plans a graph each time before it computes it, and asks for the work
// size of each operation: there the count starts anew, so that threads need not meet before they take the first. It
// lies in the last of the operation's parameters, which products leave unused.
int32_t& chunks_taken(const ggml_tensor* op) {
  constexpr size_t last = GGML_MAX_OP_PARAMS / sizeof(int32_t) - 1;
  return const_cast<ggml_tensor*>(op)->op_params[last];
}
size_t take_chunk(const ggml_tensor* op) {
  return static_cast<size_t>(__atomic_fetch_add(&chunks_taken(op), 1, __ATOMIC_RELAXED));
}

// The columns of an operation's input, and how its scratch memory is laid out.
struct Columns {
  const ggml_tensor* op;
  const ggml_tensor* input;
  size_t count, products, input_bytes;
  bool alone;  // each thread quantizes all columns

  Columns(const Matrix& matrix, const ggml_tensor* op_) : op(op_), input(op_->src[1]) {
    count = static_cast<size_t>(ggml_nrows(input));
    products = static_cast<size_t>(ggml_nrows(op));
    input_bytes = matrix.input_bytes;
    alone = count * matrix.depth <= kAloneAtMost;
    list_bytes_ = up_to_line(products * sizeof(localq_column)) +
                  up_to_line(op->op == GGML_OP_MUL_MAT_ID ? (matrix.experts + 1) * sizeof(uint32_t) : 0);
    thread_bytes_ = list_bytes_ + up_to_line(matrix.workspace_bytes(products)) +
                    (alone ? count * input_bytes : 0);
    shared_bytes_ = alone ? 0 : count * input_bytes;
  }

  size_t work_bytes(size_t threads) const { return 64 + shared_bytes_ + threads * thread_bytes_; }

  // Parts of this thread's memory, and of that of all.
  uint8_t* thread_memory(const ggml_compute_params& params) const {
    return base(params) + shared_bytes_ + static_cast<size_t>(params.ith) * thread_bytes_;
  }
  localq_column* list(const ggml_compute_params& params) const {
    return reinterpret_cast<localq_column*>(thread_memory(params));
  }
  uint32_t* expert_ends(const ggml_compute_params& params) const {
    return reinterpret_cast<uint32_t*>(thread_memory(params) + up_to_line(products * sizeof(localq_column)));
  }
  uint8_t* inputs(const ggml_compute_params& params) const {
    return alone ? thread_memory(params) + thread_bytes_ - count * input_bytes : base(params);
  }
  uint8_t* workspace(const ggml_compute_params& params) const { return thread_memory(params) + list_bytes_; }

  void quantize(const Matrix& matrix, const ggml_compute_params& params) const {
    const Share share(count, params);
    for (size_t c = alone ? 0 : share.first; c < (alone ? count : share.last); ++c) {
      const size_t i1 = c % ne(1), i2 = c / ne(1) % ne(2), i3 = c / ne(1) / ne(2);
      const char* at = static_cast<const char*>(input->data) + i1 * input->nb[1] + i2 * input->nb[2] +
                       i3 * input->nb[3];
      matrix.quantize(reinterpret_cast<const float*>(at), inputs(params) + c * input_bytes, workspace(params));
    }
    if (!alone) ggml_barrier(params.threadpool);
  }

 private:
  size_t list_bytes_, thread_bytes_, shared_bytes_;

  size_t ne(size_t dimension) const { return static_cast<size_t>(input->ne[dimension]); }
  static uint8_t* base(const ggml_compute_params& params) {
    return reinterpret_cast<uint8_t*>(up_to_line(reinterpret_cast<uintptr_t>(params.wdata)));
  }
};

// The columns that are multiplied with each expert: those of expert e end at ends[e] of the list.
struct Assignment {
  const localq_column* list;
  const uint32_t* ends;
  size_t experts;
};

void multiply_chunks(const Matrix& matrix, const Assignment& assignment, const Columns& columns,
                     const ggml_compute_params& params) {
  const size_t strips = matrix.strip_count(), threads = static_cast<size_t>(params.nth);
  const bool chunked = matrix.expert_bytes() >= kChunkedFrom;
  const size_t chunks = std::min(strips, chunked ? kChunksEach * threads : threads);
  const auto next = [&](size_t chunk) { return chunked ? take_chunk(columns.op) : chunk + threads; };
  size_t chunk = chunked ? take_chunk(columns.op) : static_cast<size_t>(params.ith);
  size_t passed = 0;  // chunks of the experts before this one
  for (size_t e = 0, begin = 0; e < assignment.experts; begin = assignment.ends[e++]) {
    const size_t count = assignment.ends[e] - begin;
    if (count == 0) continue;
    localq_product product{matrix.expert(e), matrix.rows, matrix.depth, assignment.list + begin, count, matrix.table,
                           false};
    for (; chunk < passed + chunks; chunk = next(chunk)) {
      const Share share(strips, chunk - passed, chunks);
      matrix.multiply(&product, share.first, share.last, columns.workspace(params));
      product.prepared = true;
    }
    passed += chunks;
  }
}

void multiply_all(const Matrix& matrix, const Columns& columns, const ggml_compute_params& params) {
  localq_column* list = columns.list(params);
  for (size_t c = 0; c < columns.count; ++c) {
    list[c] = {columns.inputs(params) + c * columns.input_bytes,
               reinterpret_cast<float*>(static_cast<char*>(columns.op->data) + c * columns.op->nb[1])};
  }
  const uint32_t end = static_cast<uint32_t>(columns.count);
  multiply_chunks(matrix, {list, &end, 1}, columns, params);
}

// ids [used, tokens]: the product of token t in place u is with expert ids[u, t] and column (u modulo the input's) of t.
void multiply_by_expert(const Matrix& matrix, const Columns& columns, const ggml_compute_params& params) {
  const ggml_tensor* ids = columns.op->src[2];
  const size_t used = static_cast<size_t>(ids->ne[0]), tokens = static_cast<size_t>(ids->ne[1]);
  const size_t input_columns = static_cast<size_t>(columns.input->ne[1]);
  const auto expert_of = [&](size_t u, size_t t) {
    int32_t id;
    memcpy(&id, static_cast<const char*>(ids->data) + u * ids->nb[0] + t * ids->nb[1], sizeof id);
    return static_cast<size_t>(id);
  };
  // Sorted by expert: ends[e] first counts, then says where expert e's columns begin, at last where they end.
  uint32_t* ends = columns.expert_ends(params);
  std::fill(ends, ends + matrix.experts + 1, 0);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t u = 0; u < used; ++u) ++ends[expert_of(u, t) + 1];
  }
  for (size_t e = 0; e < matrix.experts; ++e) ends[e + 1] += ends[e];
  localq_column* list = columns.list(params);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t u = 0; u < used; ++u) {
      char* output = static_cast<char*>(columns.op->data) + u * columns.op->nb[1] + t * columns.op->nb[2];
      list[ends[expert_of(u, t)]++] = {
          columns.inputs(params) + (u % input_columns + t * input_columns) * columns.input_bytes,
          reinterpret_cast<float*>(output)};
    }
  }
  multiply_chunks(matrix, {list, ends, matrix.experts}, columns, params);
}

void get_rows(const Matrix& matrix, const ggml_tensor* op, const ggml_compute_params& params) {
  const ggml_tensor* ids = op->src[1];
  uint8_t* data = static_cast<uint8_t*>(params.wdata) + static_cast<size_t>(params.ith) * matrix.row_bytes();
  const Share share(static_cast<size_t>(ggml_nelements(ids)), params);
  for (size_t i = share.first; i < share.last; ++i) {
    const size_t n0 = static_cast<size_t>(ids->ne[0]), n1 = static_cast<size_t>(ids->ne[1]);
    const size_t i0 = i % n0, i1 = i / n0 % n1, i2 = i / n0 / n1;
    int32_t row;
    memcpy(&row, static_cast<const char*>(ids->data) + i0 * ids->nb[0] + i1 * ids->nb[1] + i2 * ids->nb[2],
           sizeof row);
    localq_unpack_row(matrix.layout->ggml_type, matrix.strips, matrix.depth, static_cast<size_t>(row), data);
    char* to = static_cast<char*>(op->data) + i0 * op->nb[1] + i1 * op->nb[2] + i2 * op->nb[3];
    localq_dequantize_blocks(matrix.layout->ggml_type, data, matrix.depth / matrix.layout->weights,
                             reinterpret_cast<float*>(to));
  }
}

}  // namespace

Matrix::Matrix(const localq_strip_layout* layout_, size_t depth_, size_t rows_, size_t experts_,
               const uint8_t* strips_)
    : layout(layout_),
      multiply(kernels->multiply_of(layout_->ggml_type)),
      depth(depth_),
      rows(rows_),
      experts(experts_),
      strips(strips_),
      strip_rows(LOCALQ_STRIP_ROWS),
      strip_bytes(LOCALQ_STRIP_ROWS * (depth_ / layout_->weights * layout_->bytes)),
      input_bytes(localq_input_bytes(depth_, layout_->weights)) {}

Matrix::Matrix(const localq_ggml_matrix& own)
    : layout(nullptr),
      multiply(kernels->lt_multiply_of(own.bits, own.state_bits)),
      depth(own.depth),
      rows(own.rows),
      experts(own.experts),
      strips(static_cast<const uint8_t*>(own.strips)),
      strip_rows(LOCALQ_LT_ROWS),
      strip_bytes(localq_lt_strip_bytes(own.bits, own.depth)),
      input_bytes(localq_lt_input_bytes(own.depth)),
      transform{static_cast<const uint8_t*>(own.signs), static_cast<const uint16_t*>(own.order)},
      table(static_cast<const int8_t*>(own.table)) {}

size_t Matrix::workspace_bytes(size_t columns) const {
  return layout ? localq_workspace_bytes(layout, depth, columns) : localq_lt_workspace_bytes(depth, columns);
}

void Matrix::quantize(const float* values, uint8_t* input, uint8_t* workspace) const {
  if (!layout) {
    kernels->lt_transform_input(&transform, values, depth, input, reinterpret_cast<float*>(workspace));
  } else if (input_scales.scales.empty()) {
    kernels->quantize_input(values, depth, layout->weights, input);
  } else {
    kernels->quantize_input_static(values, input_scales.scales.data(), input_scales.inverses.data(), depth,
                                   layout->weights, input);
  }
}

bool Matrix::work_size(int threads, const ggml_tensor* op, size_t& size) {
  if (op->op != GGML_OP_GET_ROWS) chunks_taken(op) = 0;
  size = op->op == GGML_OP_GET_ROWS ? static_cast<size_t>(threads) * row_bytes()
                                    : Columns(*this, op).work_bytes(static_cast<size_t>(threads));
  return true;
}

bool Matrix::compute_forward(ggml_compute_params* params, ggml_tensor* op) {
  if (op->op == GGML_OP_GET_ROWS) {
    get_rows(*this, op, *params);
    return true;
  }
  const Columns columns(*this, op);
  columns.quantize(*this, *params);
  if (op->op == GGML_OP_MUL_MAT) {
    multiply_all(*this, columns, *params);
  } else {
    multiply_by_expert(*this, columns, *params);
  }
  return true;
}

bool supports(const ggml_tensor* op) {
  const ggml_tensor *weights = op->src[0], *input = op->src[1];
  if (weights->view_src != nullptr || op->type != GGML_TYPE_F32) return false;
  switch (op->op) {
    case GGML_OP_MUL_MAT:
      return input->type == GGML_TYPE_F32 && input->nb[0] == sizeof(float) && weights->ne[2] == 1 &&
             weights->ne[3] == 1;
    case GGML_OP_MUL_MAT_ID:
      return input->type == GGML_TYPE_F32 && input->nb[0] == sizeof(float) && weights->ne[3] == 1 &&
             op->src[2]->type == GGML_TYPE_I32;
    case GGML_OP_GET_ROWS:
      return input->type == GGML_TYPE_I32 && weights->ne[2] == 1 && weights->ne[3] == 1;
    default:
      return false;
  }
}

}  // namespace localq::hook
