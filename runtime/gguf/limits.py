"""What a GGUF may claim. Each limit is several times what real files need, and small enough to be cheap.

A file over a limit is refused although llama.cpp might read it; the limits keep the reader's time and memory
bounded and hold values inside what native code was written for.
"""

from __future__ import annotations

from typing import Final

KEYS: Final = 16_384
"""Real files hold 20 to 150 keys; the rest is room for provenance notes."""

TENSORS: Final = 131_072
"""Real files hold up to some 2,500, the experts being stacked; the rest is room for one tensor an expert."""

KEY_BYTES: Final = 256
"""llama.cpp's longest keys have some 60; the GGUF specification allows 65,535."""

TENSOR_NAME_BYTES: Final = 63
"""ggml keeps a name in 64 bytes, the last of them NUL."""

METADATA_BYTES: Final = 128 << 20
"""The whole key-value section. Gemma 4's takes 16 MiB; a tokenizer.json in it may take twice that."""

TEXT_BYTES: Final = 1 << 20
"""A text kept in memory; a longer one stays in the file. Real ones end below 100 KiB."""

TEXTS_BYTES: Final = 8 << 20
"""All texts in memory together: decoded they may take four times that."""

STRING_BYTES: Final = 4 << 20
"""One string of an array."""

CHAT_TEMPLATE_BYTES: Final = 1 << 20
"""Real templates have 0.1 to 60 KiB."""

CHAT_TEMPLATES: Final = 16
"""Named templates beside the default one; real files have up to 3."""

ARRAY_STRINGS: Final = 1 << 21
"""Strings in all arrays together. Gemma 4 has the most, 777,053, two thirds of them merges."""

VOCABULARY: Final = 1 << 19
"""Tokens. The largest real vocabularies have some 262,400."""

VOCABULARY_BYTES: Final = 16 << 20
"""All tokens' texts together, with their length fields: real ones take up to 5 MiB."""

TOKEN_BYTES: Final = 4_096
"""One token's text. llama.cpp recurses once a byte to build its trie; the longest real ones have 1,024."""

TOKEN_SQUARES: Final = 64 << 20
"""Sum over all tokens of the square of the text's length, from 64 bytes on: llama.cpp may write a text that
is not of its byte alphabet once for each of its characters. Real vocabularies stay below a tenth of this."""

BLOCKS: Final = 512
"""llama.cpp keeps its per-layer values in arrays of this length."""

EXPERTS: Final = 1_024
"""llama.cpp's own limit (LLAMA_MAX_EXPERTS)."""

ALIGNMENT_MIN: Final = 8
"""The GGUF specification asks for a multiple of 8."""

ALIGNMENT_MAX: Final = 65_536
"""The largest page that a machine maps; real files have 32, rarely 64 or 4,096."""

INLINE_BYTES: Final = 4_096
"""Arrays of numbers up to this size are kept with the header: every per-layer array is."""

ACTIVATION_SCALES: Final = 1 << 20
"""Of all inputs together: a model of 405 billion weights has some 600,000 blocks of 32 columns."""

SPLIT_PARTS: Final = 4_096
"""Parts of one model. The largest real sets have some 150."""
