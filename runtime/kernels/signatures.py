"""Structures of ``localq_kernels.h`` and prototypes of the encoders' kernels, as ctypes has them."""

from __future__ import annotations

import ctypes

_SIZES = (ctypes.c_size_t,) * 4


class FormatData(ctypes.Structure):
    """``localq_format``: a block format as data."""

    _fields_ = (
        ("block", ctypes.c_uint32),
        ("group", ctypes.c_uint32),
        ("level_count", ctypes.c_uint32),
        ("affine", ctypes.c_uint32),
        ("scale_low", ctypes.c_int32),
        ("scale_high", ctypes.c_int32),
        ("minima_high", ctypes.c_int32),
        ("levels", ctypes.c_float * 256),
    )


class BlocksData(ctypes.Structure):
    """``localq_blocks``: unpacked blocks of a matrix."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("minimum", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("minima", ctypes.c_void_p),
    )


class FeedbackData(ctypes.Structure):
    """``localq_feedback``: rows that error feedback works on, in tiles."""

    _fields_ = (
        ("tiles", ctypes.c_size_t),
        ("columns", ctypes.c_size_t),
        ("groups", ctypes.c_size_t),
        ("weights", ctypes.c_void_p),
        ("errors", ctypes.c_void_p),
        ("codes", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("minima", ctypes.c_void_p),
        ("group_of", ctypes.c_void_p),
        ("coefficients", ctypes.c_void_p),
    )


class TrellisData(ctypes.Structure):
    """``localq_trellis``: bits of a symbol and of a state, and the values of states."""

    _fields_ = (
        ("symbol_bits", ctypes.c_uint32),
        ("state_bits", ctypes.c_uint32),
        ("table", ctypes.c_float * 256),
    )


class RefinementData(ctypes.Structure):
    """``localq_refinement``: what refinement changes beside the tiles."""

    _fields_ = (
        ("scale", ctypes.c_void_p),
        ("minimum", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("minima", ctypes.c_void_p),
        ("steps", ctypes.c_void_p),
        ("ridge", ctypes.c_float),
        ("passes", ctypes.c_uint32),
    )


class ColumnData(ctypes.Structure):
    """``localq_column``: a quantized input, and where the results go."""

    _fields_ = (("input", ctypes.c_void_p), ("output", ctypes.c_void_p))


class ProductData(ctypes.Structure):
    """``localq_product``: a matrix in strips times columns."""

    _fields_ = (
        ("strips", ctypes.c_void_p),
        ("rows", ctypes.c_size_t),
        ("depth", ctypes.c_size_t),
        ("column", ctypes.POINTER(ColumnData)),
        ("columns", ctypes.c_size_t),
        ("table", ctypes.c_void_p),
        ("prepared", ctypes.c_bool),
    )


class LtInputData(ctypes.Structure):
    """``localq_lt_input``: how a column becomes the input of an LT matrix."""

    _fields_ = (("signs", ctypes.c_void_p), ("order", ctypes.c_void_p))


# void gram_f32(const float* x, size_t tokens, size_t stride, size_t blocks, size_t size, float sign,
#               float* g, size_t g_stride, size_t part, size_t parts, float* workspace);
GramF32 = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, *_SIZES, ctypes.c_float, ctypes.c_void_p, *_SIZES[:3], ctypes.c_void_p
)
# int64_t cholesky_step_f32(float* h, size_t n, size_t first, size_t last, double least, float* workspace);
CholeskyStepF32 = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, *_SIZES[:3], ctypes.c_double, ctypes.c_void_p
)
# void feedback_targets_f32(const localq_feedback* feedback, size_t first, size_t last, size_t from,
#                           size_t to, uint32_t start, float* targets);
FeedbackTargetsF32 = ctypes.CFUNCTYPE(
    None, ctypes.POINTER(FeedbackData), *_SIZES, ctypes.c_uint32, ctypes.c_void_p
)
# void feedback_round_f32(const localq_feedback* feedback, const localq_format* format, size_t first,
#                         size_t last, float* targets);
FeedbackRoundF32 = ctypes.CFUNCTYPE(
    None, ctypes.POINTER(FeedbackData), ctypes.POINTER(FormatData), *_SIZES[:2], ctypes.c_void_p
)
# void feedback_refine_f32(const localq_feedback* feedback, const localq_format* format,
#                          const localq_refinement* refinement, size_t first, size_t last,
#                          const float* outside, float* workspace);
FeedbackRefineF32 = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(FeedbackData),
    ctypes.POINTER(FormatData),
    ctypes.POINTER(RefinementData),
    *_SIZES[:2],
    ctypes.c_void_p,
    ctypes.c_void_p,
)
# void fit_f32(const localq_format* format, const float* weights, size_t rows, size_t columns,
#              const float* importance, const localq_blocks* blocks);
FitF32 = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(FormatData),
    ctypes.c_void_p,
    *_SIZES[:2],
    ctypes.c_void_p,
    ctypes.POINTER(BlocksData),
)
# void trellis_round_f32(const localq_feedback* feedback, const localq_trellis* trellis, size_t first,
#                        size_t last, float* targets, float* workspace);
TrellisRoundF32 = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(FeedbackData),
    ctypes.POINTER(TrellisData),
    *_SIZES[:2],
    ctypes.c_void_p,
    ctypes.c_void_p,
)
# void localq_multiply(const localq_product* product, size_t first_strip, size_t last_strip, uint8_t*
# workspace);
Multiply = ctypes.CFUNCTYPE(None, ctypes.POINTER(ProductData), *_SIZES[:2], ctypes.c_void_p)
# localq_multiply* multiply_of(uint32_t ggml_type);
MultiplyOf = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
# void quantize_input(const float* values, size_t depth, size_t block, uint8_t* input);
QuantizeInput = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)
# void quantize_input_static(const float* values, const float* scales, const float* inverses, size_t depth,
#                            size_t block, uint8_t* input);
QuantizeInputStatic = ctypes.CFUNCTYPE(
    None,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_void_p,
)
# localq_multiply* lt_multiply_of(uint32_t bits, uint32_t state_bits);
LtMultiplyOf = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)
# void lt_transform_input(const localq_lt_input* transform, const float* values, size_t depth,
#                         uint8_t* input, float* workspace);
LtTransformInput = ctypes.CFUNCTYPE(
    None,
    ctypes.POINTER(LtInputData),
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
)
# void localq_tiles_load_f32(const float* from, size_t rows, size_t stride, const uint32_t* order,
#                            size_t columns, float* tiles);
# void localq_tiles_store_f32(const float* tiles, size_t rows, size_t stride, const uint32_t* order,
#                             size_t columns, float* to);
# void localq_tiles_store_u8(const uint8_t* tiles, size_t rows, size_t stride, const uint32_t* order,
#                            size_t columns, uint8_t* to);
TILES = (ctypes.c_void_p, *_SIZES[:2], ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
