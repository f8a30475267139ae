"""What a number that a person gives may be; for options and settings alike. Imports nothing."""

from __future__ import annotations

KV_TYPES = ("f16", "q8_0", "q4_0")
MAX_CONTEXT_TOKENS = 1 << 24
MAX_THREADS = 1024
