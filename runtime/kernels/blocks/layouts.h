// How the blocks of each format lie in bytes: the C++ of quant/formats/*.py, which describe and define them.
//
// A layout L has pack(const Block&, uint8_t*) and unpack(const uint8_t*, Block&) besides its facts. Both walk
// over constants only, so that the compiler unrolls and vectorises them for the ABI's floor.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace {

struct Block {
  uint8_t codes[256];
  uint16_t scale, minimum;  // bits of fp16
  int8_t scales[16];
  uint8_t minima[16];
};

// What a layout is besides its bytes. Levels of uniform formats are code + lowest.
template <uint32_t type_, size_t weights_, size_t bytes_, size_t group_, int lowest_>
struct Facts {
  static constexpr uint32_t type = type_;
  static constexpr size_t weights = weights_, bytes = bytes_, group = group_, groups = weights_ / group_;
  static constexpr int lowest = lowest_, step = 1;
  static constexpr bool minimum = false, scales = false, minima = false;
  static constexpr const float* levels = nullptr;
};

inline void put_u16(uint16_t value, uint8_t* to) {
  to[0] = static_cast<uint8_t>(value);
  to[1] = static_cast<uint8_t>(value >> 8);
}
inline uint16_t get_u16(const uint8_t* from) { return static_cast<uint16_t>(from[0] | from[1] << 8); }

// The value of an fp16.
inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = half >> 10 & 31u, fraction = half & 1023u;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | fraction << 13;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// Sixteen bytes at once: compilers widen loops over bytes to words.
typedef uint8_t u8x16 __attribute__((vector_size(16), aligned(1), may_alias));

inline u8x16 load_u8x16(const uint8_t* from) { return *reinterpret_cast<const u8x16*>(from); }
inline void store_u8x16(uint8_t* to, u8x16 bytes) { *reinterpret_cast<u8x16*>(to) = bytes; }

// quant/formats/bits.py: pieces of lanes * 8 / bits codes; the first `lanes` take the lowest bits of `lanes`
// bytes. Of each code the `bits` bits from `from` on.
template <size_t bits, size_t lanes, size_t count, size_t from = 0>
inline void fold(const uint8_t* codes, uint8_t* data) {
  constexpr size_t planes = 8 / bits;
  constexpr uint8_t mask = (1u << bits) - 1;
  for (size_t piece = 0; piece < count / (planes * lanes); ++piece, codes += planes * lanes, data += lanes) {
    if constexpr (lanes % 16 == 0) {
      for (size_t lane = 0; lane < lanes; lane += 16) {
        u8x16 bytes = {};
        for (size_t plane = 0; plane < planes; ++plane) {
          bytes |= (load_u8x16(codes + plane * lanes + lane) >> from & mask) << (bits * plane);
        }
        store_u8x16(data + lane, bytes);
      }
    } else {
      for (size_t lane = 0; lane < lanes; ++lane) {
        unsigned byte = 0;
        for (size_t plane = 0; plane < planes; ++plane) {
          byte |= (codes[plane * lanes + lane] >> from & mask) << (bits * plane);
        }
        data[lane] = static_cast<uint8_t>(byte);
      }
    }
  }
}

// The inverse; with `to` the bits are added to codes whose lower ones are there already.
template <size_t bits, size_t lanes, size_t count, size_t to = 0>
inline void unfold(const uint8_t* data, uint8_t* codes) {
  constexpr size_t planes = 8 / bits;
  constexpr uint8_t mask = (1u << bits) - 1;
  for (size_t piece = 0; piece < count / (planes * lanes); ++piece, codes += planes * lanes, data += lanes) {
    if constexpr (lanes % 16 == 0) {
      for (size_t lane = 0; lane < lanes; lane += 16) {
        const u8x16 bytes = load_u8x16(data + lane);
        for (size_t plane = 0; plane < planes; ++plane) {
          uint8_t* at = codes + plane * lanes + lane;
          const u8x16 found = (bytes >> (bits * plane) & mask) << to;
          store_u8x16(at, to > 0 ? load_u8x16(at) | found : found);
        }
      }
    } else {
      for (size_t plane = 0; plane < planes; ++plane) {
        for (size_t lane = 0; lane < lanes; ++lane) {
          const unsigned code = (data[lane] >> (bits * plane) & mask) << to;
          uint8_t& at = codes[plane * lanes + lane];
          at = static_cast<uint8_t>(to > 0 ? at | code : code);
        }
      }
    }
  }
}

// A scale, then one fold of all codes (Q1_0, Q2_0, Q4_0, IQ4_NL).
template <uint32_t type, size_t weights, size_t bits, size_t lanes, int lowest>
struct ScaleFirst : Facts<type, weights, 2 + weights * bits / 8, weights, lowest> {
  static void pack(const Block& block, uint8_t* data) {
    put_u16(block.scale, data);
    fold<bits, lanes, weights>(block.codes, data + 2);
  }
  static void unpack(const uint8_t* data, Block& block) {
    block.scale = get_u16(data);
    unfold<bits, lanes, weights>(data + 2, block.codes);
  }
};

struct Q1_0 : ScaleFirst<41, 128, 1, 1, -1> {
  static constexpr int step = 2;  // -1, 1
};
struct Q2_0 : ScaleFirst<42, 64, 2, 1, -1> {};
struct Q4_0 : ScaleFirst<2, 32, 4, 16, -8> {};

constexpr float kLevelsIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
struct Iq4Nl : ScaleFirst<20, 32, 4, 16, 0> {
  static constexpr const float* levels = kLevelsIq4;
};

// The file holds what is added, blocks what is subtracted.
struct Q4_1 : Facts<3, 32, 20, 32, 0> {
  static constexpr bool minimum = true;
  static void pack(const Block& block, uint8_t* data) {
    put_u16(block.scale, data);
    put_u16(block.minimum ^ 0x8000, data + 2);
    fold<4, 16, 32>(block.codes, data + 4);
  }
  static void unpack(const uint8_t* data, Block& block) {
    block.scale = get_u16(data);
    block.minimum = get_u16(data + 2) ^ 0x8000;
    unfold<4, 16, 32>(data + 4, block.codes);
  }
};

struct Q5_0 : Facts<6, 32, 22, 32, -16> {
  static void pack(const Block& block, uint8_t* data) {
    put_u16(block.scale, data);
    fold<1, 1, 32, 4>(block.codes, data + 2);
    fold<4, 16, 32>(block.codes, data + 6);
  }
  static void unpack(const uint8_t* data, Block& block) {
    block.scale = get_u16(data);
    unfold<4, 16, 32>(data + 6, block.codes);
    unfold<1, 1, 32, 4>(data + 2, block.codes);
  }
};

struct Q5_1 : Facts<7, 32, 24, 32, 0> {
  static constexpr bool minimum = true;
  static void pack(const Block& block, uint8_t* data) {
    put_u16(block.scale, data);
    put_u16(block.minimum ^ 0x8000, data + 2);
    fold<1, 1, 32, 4>(block.codes, data + 4);
    fold<4, 16, 32>(block.codes, data + 8);
  }
  static void unpack(const uint8_t* data, Block& block) {
    block.scale = get_u16(data);
    block.minimum = get_u16(data + 2) ^ 0x8000;
    unfold<4, 16, 32>(data + 8, block.codes);
    unfold<1, 1, 32, 4>(data + 4, block.codes);
  }
};

struct Q8_0 : Facts<8, 32, 34, 32, -128> {
  static void pack(const Block& block, uint8_t* data) {
    put_u16(block.scale, data);
    for (size_t i = 0; i < 32; ++i) data[2 + i] = block.codes[i] ^ 0x80;
  }
  static void unpack(const uint8_t* data, Block& block) {
    block.scale = get_u16(data);
    for (size_t i = 0; i < 32; ++i) block.codes[i] = data[2 + i] ^ 0x80;
  }
};

// The 12 bytes of quant/formats/k_scales.py.
inline void pack_scales(const int8_t* scales, const uint8_t* minima, uint8_t* data) {
  for (size_t i = 0; i < 4; ++i) {
    const unsigned scale = static_cast<uint8_t>(scales[i + 4]), minimum = minima[i + 4];
    data[i] = static_cast<uint8_t>((scales[i] & 63) | scale >> 4 << 6);
    data[i + 4] = static_cast<uint8_t>((minima[i] & 63) | minimum >> 4 << 6);
    data[i + 8] = static_cast<uint8_t>((scale & 15) | minimum << 4);
  }
}
inline void unpack_scales(const uint8_t* data, int8_t* scales, uint8_t* minima) {
  for (size_t i = 0; i < 4; ++i) {
    scales[i] = static_cast<int8_t>(data[i] & 63);
    minima[i] = data[i + 4] & 63;
    scales[i + 4] = static_cast<int8_t>((data[i + 8] & 15) | data[i] >> 6 << 4);
    minima[i + 4] = static_cast<uint8_t>(data[i + 8] >> 4 | data[i + 4] >> 6 << 4);
  }
}

struct Q4K : Facts<12, 256, 144, 32, 0> {
  static constexpr bool minimum = true, scales = true, minima = true;
  static void pack(const Block& block, uint8_t* data) {
    put_u16(block.scale, data);
    put_u16(block.minimum, data + 2);
    pack_scales(block.scales, block.minima, data + 4);
    fold<4, 32, 256>(block.codes, data + 16);
  }
  static void unpack(const uint8_t* data, Block& block) {
    block.scale = get_u16(data);
    block.minimum = get_u16(data + 2);
    unpack_scales(data + 4, block.scales, block.minima);
    unfold<4, 32, 256>(data + 16, block.codes);
  }
};

struct Q5K : Facts<13, 256, 176, 32, 0> {
  static constexpr bool minimum = true, scales = true, minima = true;
  static void pack(const Block& block, uint8_t* data) {
    put_u16(block.scale, data);
    put_u16(block.minimum, data + 2);
    pack_scales(block.scales, block.minima, data + 4);
    fold<1, 32, 256, 4>(block.codes, data + 16);
    fold<4, 32, 256>(block.codes, data + 48);
  }
  static void unpack(const uint8_t* data, Block& block) {
    block.scale = get_u16(data);
    block.minimum = get_u16(data + 2);
    unpack_scales(data + 4, block.scales, block.minima);
    unfold<4, 32, 256>(data + 48, block.codes);
    unfold<1, 32, 256, 4>(data + 16, block.codes);
  }
};

struct Q2K : Facts<10, 256, 84, 16, 0> {
  static constexpr bool minimum = true, scales = true, minima = true;
  static void pack(const Block& block, uint8_t* data) {
    for (size_t i = 0; i < 16; ++i)
      data[i] = static_cast<uint8_t>((block.scales[i] & 15) | block.minima[i] << 4);
    fold<2, 32, 256>(block.codes, data + 16);
    put_u16(block.scale, data + 80);
    put_u16(block.minimum, data + 82);
  }
  static void unpack(const uint8_t* data, Block& block) {
    for (size_t i = 0; i < 16; ++i) {
      block.scales[i] = data[i] & 15;
      block.minima[i] = data[i] >> 4;
    }
    unfold<2, 32, 256>(data + 16, block.codes);
    block.scale = get_u16(data + 80);
    block.minimum = get_u16(data + 82);
  }
};

// Group scales are stored plus 32, in 6 bits.
inline void raise_scales(const int8_t* scales, size_t count, uint8_t* stored) {
  for (size_t i = 0; i < count; ++i) stored[i] = static_cast<uint8_t>(scales[i] + 32);
}
inline void lower_scales(const uint8_t* stored, size_t count, int8_t* scales) {
  for (size_t i = 0; i < count; ++i) scales[i] = static_cast<int8_t>(stored[i] - 32);
}

struct Q3K : Facts<11, 256, 110, 16, -4> {
  static constexpr bool scales = true;
  static void pack(const Block& block, uint8_t* data) {
    uint8_t stored[16];
    raise_scales(block.scales, 16, stored);
    fold<1, 32, 256, 2>(block.codes, data);
    fold<2, 32, 256>(block.codes, data + 32);
    fold<4, 8, 16>(stored, data + 96);
    fold<2, 4, 16, 4>(stored, data + 104);
    put_u16(block.scale, data + 108);
  }
  static void unpack(const uint8_t* data, Block& block) {
    uint8_t stored[16];
    unfold<2, 32, 256>(data + 32, block.codes);
    unfold<1, 32, 256, 2>(data, block.codes);
    unfold<4, 8, 16>(data + 96, stored);
    unfold<2, 4, 16, 4>(data + 104, stored);
    lower_scales(stored, 16, block.scales);
    block.scale = get_u16(data + 108);
  }
};

struct Q6K : Facts<14, 256, 210, 16, -32> {
  static constexpr bool scales = true;
  static void pack(const Block& block, uint8_t* data) {
    fold<4, 64, 256>(block.codes, data);
    fold<2, 32, 256, 4>(block.codes, data + 128);
    for (size_t i = 0; i < 16; ++i) data[192 + i] = static_cast<uint8_t>(block.scales[i]);
    put_u16(block.scale, data + 208);
  }
  static void unpack(const uint8_t* data, Block& block) {
    unfold<4, 64, 256>(data, block.codes);
    unfold<2, 32, 256, 4>(data + 128, block.codes);
    for (size_t i = 0; i < 16; ++i) block.scales[i] = static_cast<int8_t>(data[192 + i]);
    block.scale = get_u16(data + 208);
  }
};

struct Iq4Xs : Facts<23, 256, 136, 32, 0> {
  static constexpr bool scales = true;
  static constexpr const float* levels = kLevelsIq4;
  static void pack(const Block& block, uint8_t* data) {
    uint8_t stored[8];
    raise_scales(block.scales, 8, stored);
    put_u16(block.scale, data);
    fold<2, 1, 8, 4>(stored, data + 2);
    fold<4, 1, 8>(stored, data + 4);
    fold<4, 16, 256>(block.codes, data + 8);
  }
  static void unpack(const uint8_t* data, Block& block) {
    uint8_t stored[8];
    block.scale = get_u16(data);
    unfold<4, 1, 8>(data + 4, stored);
    unfold<2, 1, 8, 4>(data + 2, stored);
    lower_scales(stored, 8, block.scales);
    unfold<4, 16, 256>(data + 8, block.codes);
  }
};

struct Tq2_0 : Facts<35, 256, 66, 256, -1> {
  static void pack(const Block& block, uint8_t* data) {
    fold<2, 32, 256>(block.codes, data);
    put_u16(block.scale, data + 64);
  }
  static void unpack(const uint8_t* data, Block& block) {
    unfold<2, 32, 256>(data, block.codes);
    block.scale = get_u16(data + 64);
  }
};

// quant/formats/tq1_0.py: `digits` codes of 0 to 2 in a byte, the fraction of base 3 in 256ths, rounded up.
template <size_t size, size_t digits>
inline void pack_digits(const uint8_t* codes, uint8_t* data) {
  for (size_t lane = 0; lane < size; ++lane) {
    unsigned number = 0;
    for (size_t digit = 0; digit < 5; ++digit)
      number = number * 3 + (digit < digits ? codes[digit * size + lane] : 0u);
    data[lane] = static_cast<uint8_t>((number * 256 + 242) / 243);
  }
}
template <size_t size, size_t digits>
inline void unpack_digits(const uint8_t* data, uint8_t* codes) {
  uint8_t rest[size];
  for (size_t lane = 0; lane < size; ++lane) rest[lane] = data[lane];
  for (size_t digit = 0; digit < digits; ++digit, codes += size) {
    for (size_t lane = 0; lane < size; ++lane) {
      const unsigned tripled = rest[lane] * 3u;
      codes[lane] = static_cast<uint8_t>(tripled >> 8);
      rest[lane] = static_cast<uint8_t>(tripled);
    }
  }
}

struct Tq1_0 : Facts<34, 256, 54, 256, -1> {
  static void pack(const Block& block, uint8_t* data) {
    pack_digits<32, 5>(block.codes, data);
    pack_digits<16, 5>(block.codes + 160, data + 32);
    pack_digits<4, 4>(block.codes + 240, data + 48);
    put_u16(block.scale, data + 52);
  }
  static void unpack(const uint8_t* data, Block& block) {
    unpack_digits<32, 5>(data, block.codes);
    unpack_digits<16, 5>(data + 32, block.codes + 160);
    unpack_digits<4, 4>(data + 48, block.codes + 240);
    block.scale = get_u16(data + 52);
  }
};

}  // namespace
