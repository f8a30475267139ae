// Rows of a matrix <-> tiles of 64 rows in which a column is contiguous; columns in any order.
#include "localq_kernels.h"

namespace {

constexpr size_t kTileRows = LOCALQ_TILE_ROWS;

template <typename Value>
void store(const Value* tiles, size_t rows, size_t stride, const uint32_t* order, size_t columns, Value* to) {
  for (size_t first = 0; first < rows; first += kTileRows, tiles += columns * kTileRows) {
    const size_t there = rows - first < kTileRows ? rows - first : kTileRows;
    for (size_t k = 0; k < columns; ++k) {
      Value* column = to + first * stride + order[k];
      for (size_t row = 0; row < there; ++row) column[row * stride] = tiles[k * kTileRows + row];
    }
  }
}

}  // namespace

void localq_tiles_load_f32(const float* from, size_t rows, size_t stride, const uint32_t* order,
                           size_t columns, float* tiles) {
  for (size_t first = 0; first < rows; first += kTileRows, tiles += columns * kTileRows) {
    const size_t there = rows - first < kTileRows ? rows - first : kTileRows;
    for (size_t k = 0; k < columns; ++k) {
      const float* column = from + first * stride + order[k];
      for (size_t row = 0; row < there; ++row) tiles[k * kTileRows + row] = column[row * stride];
      for (size_t row = there; row < kTileRows; ++row) tiles[k * kTileRows + row] = 0.0f;
    }
  }
}

void localq_tiles_store_f32(const float* tiles, size_t rows, size_t stride, const uint32_t* order,
                            size_t columns, float* to) {
  store(tiles, rows, stride, order, columns, to);
}

void localq_tiles_store_u8(const uint8_t* tiles, size_t rows, size_t stride, const uint32_t* order,
                           size_t columns, uint8_t* to) {
  store(tiles, rows, stride, order, columns, to);
}
