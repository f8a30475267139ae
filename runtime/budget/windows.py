"""Which layers of a model look back over a window only: the fact that most shrinks a KV cache.

Source of the facts: what llama.cpp 0c1e57098 does when it loads each architecture. An architecture that is
not here is counted with whole caches: too much, never too little.
"""

from __future__ import annotations

from runtime.gguf import ArrayRef, GgufHeader

_PATTERN_KEY = "attention.sliding_window_pattern"

_PERIODS = {
    "afmoe": 4,
    "cohere2": 4,
    "cohere2moe": 4,
    "exaone-moe": 4,
    "exaone4": 4,
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "gpt-oss": 2,
    "laguna": 4,
    "llama4": 4,
    "mellum": 4,
    "muse-glimmer": 4,
    "olmo2": 4,
    "plamo3": 8,
    "smallthinker": 4,
}
"""One layer in so many sees everything, unless the file says otherwise."""

_WHOLE_FIRST = frozenset({"cohere2moe", "laguna", "smallthinker"})
"""Here it is the first of them, elsewhere the last."""

_LISTED = frozenset({"gemma4", "granite_swa", "maple", "mimo2", "spark2_5", "step35"})
"""The file lists the layers."""

_DEFAULT_WINDOW = {"exaone-moe": 128, "exaone4": 4096, "gemma2": 4096, "llama4": 8192}
_FIXED_WINDOW = {"llama4": 8192, "smallthinker": 4096}
"""llama.cpp takes this window whatever length the file names."""


def windowed_layers(header: GgufHeader, layers: int) -> tuple[int, tuple[bool, ...]]:
    """(window in tokens, for each layer whether it has one); window 0 where no layer has one."""
    none = 0, (False,) * layers
    architecture = header.architecture
    window = header.hyper_int("attention.sliding_window", _DEFAULT_WINDOW.get(architecture, 0)) or 0
    if window <= 0 or (architecture == "exaone4" and layers != 64):
        return none
    window = _FIXED_WINDOW.get(architecture, window)
    pattern = header.hyper(_PATTERN_KEY)
    if architecture in ("lfm2", "lfm2moe"):
        flags = tuple(heads > 0 for heads in header.per_layer("attention.head_count_kv", 1) or ())
    elif architecture in _PERIODS or architecture in _LISTED:
        if isinstance(pattern, ArrayRef):
            flags = tuple(map(bool, header.per_layer(_PATTERN_KEY) or ()))
        else:
            period = int(pattern) if isinstance(pattern, int) else _PERIODS.get(architecture, 1)
            flags = tuple(_is_windowed(layer, period, architecture) for layer in range(layers))
    else:
        return none
    return (window, flags[:layers]) if any(flags[:layers]) else none


def _is_windowed(layer: int, period: int, architecture: str) -> bool:
    if period == 0:
        return True
    return layer % period != (0 if architecture in _WHOLE_FIRST else period - 1)
