"""The metadata keys that llama.cpp reads of a multimodal projector (``clip.*``).

llama.cpp reads them without looking at their type and aborts at a wrong one, so every type is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.gguf import limits
from runtime.gguf.rules import BOOL, HEADS, INT32_MAX, TEXT, WIDTH, Rule, array, counted, f32, u32
from runtime.gguf.values import ValueType

_ENCODER: Final[Mapping[str, Rule]] = {
    "embedding_length": u32(1, WIDTH),
    "feed_forward_length": u32(0, WIDTH),
    "block_count": u32(1, limits.BLOCKS),
    "projection_dim": u32(0, WIDTH),
    "attention.head_count": u32(1, HEADS),
    "attention.head_count_kv": u32(1, HEADS),
    "attention.head_dim": u32(0, WIDTH),
    "attention.layer_norm_epsilon": f32(0.0, 1.0),
    "feature_layer": counted(array(ValueType.I32, most=limits.BLOCKS), 0, limits.BLOCKS),
    "projector_type": TEXT,
}

_VISION: Final[Mapping[str, Rule]] = {
    "image_size": u32(0, 8192),
    "image_min_pixels": u32(0, INT32_MAX),
    "image_max_pixels": u32(0, INT32_MAX),
    "preproc_min_tiles": u32(0, 1 << 16),
    "preproc_max_tiles": u32(0, 1 << 16),
    "preproc_image_size": u32(0, 1 << 16),
    "patch_size": u32(1, 65_535),
    "image_mean": counted(array(ValueType.F32), 3, 16),
    "image_std": counted(array(ValueType.F32), 3, 16),
    "projector.scale_factor": u32(1, 65_535),
    "projector.query_side": u32(1, 65_535),
    "projector.window_side": u32(1, 65_535),
    "spatial_merge_size": u32(1, 65_535),
    "mm_patch_merge_type": TEXT,
    "image_grid_pinpoints": counted(array(ValueType.I32, least=0, most=65_536), 0, 1024),
    "n_wa_pattern": u32(0, limits.BLOCKS),
    "wa_layer_indexes": counted(array(ValueType.I32, most=limits.BLOCKS), 0, limits.BLOCKS),
    "wa_pattern_mode": counted(array(ValueType.I32), 0, limits.BLOCKS),
    "window_size": u32(0, 4096),
    "sam.head_count": u32(1, HEADS),
    "sam.block_count": u32(1, limits.BLOCKS),
    "sam.embedding_length": u32(1, WIDTH),
    "expert_used_count": u32(0, limits.EXPERTS),
    "projector.spatial_offsets": counted(array(ValueType.I32), 0, limits.BLOCKS),
    "swiglu_clamp": f32(),
}

_AUDIO: Final[Mapping[str, Rule]] = {
    "num_mel_bins": u32(1, 256),
    "projector.stack_factor": u32(1, 65_535),
    "chunk_size": u32(1, 8192),
    "conv_kernel_size": u32(1, 65_535),
    "max_pos_emb": u32(1, 1 << 20),
    "projector.window_size": u32(1, 65_535),
    "projector.downsample_rate": u32(1, 65_535),
    "projector.head_count": u32(1, HEADS),
    "subsampling_factor": u32(1, 65_535),
    "window_size": u32(0, 4096),
    "local_block_count": u32(1, limits.BLOCKS),
    "local_group_size": u32(1, 65_535),
    "rvq.num_quantizers": u32(1, 64),
    "rvq.codebook_size": counted(array(ValueType.I32, least=1, most=1 << 20), 0, 64),
    "wa_pattern_mode": counted(array(ValueType.I32), 0, limits.BLOCKS),
}

PROJECTOR: Final[Mapping[str, Rule]] = {
    "clip.has_vision_encoder": BOOL,
    "clip.has_audio_encoder": BOOL,
    "clip.has_gen_audio_encoder": BOOL,
    "clip.use_gelu": BOOL,
    "clip.use_silu": BOOL,
    "clip.projector_type": TEXT,
    "clip.minicpmv_version": Rule((ValueType.I32,), 0, INT32_MAX),
    "clip.minicpmv_query_num": u32(0, 65_535),
    **{
        f"clip.{part}.{key}": rule
        for part in ("vision", "audio", "gen.audio")
        for key, rule in _ENCODER.items()
    },
    **{f"clip.vision.{key}": rule for key, rule in _VISION.items()},
    **{f"clip.audio.{key}": rule for key, rule in _AUDIO.items()},
}
"""A multimodal projector's keys, by the whole key."""
