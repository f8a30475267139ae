"""How fast a model will write, from its header alone.

Decoding a token reads every weight once, so its time is that of reading them; how much of the memory's
bandwidth a product reaches depends on the type of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from runtime.budget.reading import read_shares
from runtime.gguf import GgufHeader
from runtime.gguf.packed import PackedTensor
from runtime.kernels import active_isa

SHARES: Final[Mapping[str, float]] = {
    "F32": 0.85,
    "F16": 0.8,
    "BF16": 0.8,
    "Q8_0": 0.9,
    "Q6_K": 0.85,
    "Q5_0": 0.7,
    "Q5_1": 0.7,
    "Q5_K": 0.7,
    "Q4_0": 0.85,
    "Q4_1": 0.85,
    "Q4_K": 0.85,
    "IQ4_NL": 0.85,
    "IQ4_XS": 0.75,
    "Q3_K": 0.7,
    "Q2_K": 0.75,
    "Q2_0": 0.8,
    "TQ2_0": 0.85,
    "TQ1_0": 0.65,
    "Q1_0": 0.6,
}
"""Of the read bandwidth of all threads together, that a product with weights of each type reaches with
localq's kernels on AVX-512 VNNI, where memory gives 40 GB/s a thread: rounded down (docs/kernels.md)."""
WORD_SHARES: Final[Mapping[str, Mapping[str, float]]] = {
    "avx512vbmi": {"LT1": 0.6, "LT2": 0.8, "LT3": 0.8, "LT4": 0.85},
    "avx512vnni": {"LT1": 0.4, "LT2": 0.45, "LT3": 0.5, "LT4": 0.7},
    "avx_vnni": {"LT1": 0.15, "LT2": 0.18, "LT3": 0.18, "LT4": 0.36},
    "avx2": {"LT1": 0.1, "LT2": 0.13, "LT3": 0.14, "LT4": 0.26},
}
"""The same of LT formats with states of 6 bits, by the set of kernels: their tables want wide registers. A
set that was never measured counts as the slowest that was."""
OTHER_TYPES: Final = 0.4
LAYER_SECONDS: Final = 40e-6
"""Of a layer's small operations and barriers, whatever its size."""
FILLED: Final = 0.25
"""Of the context, in the middle of a conversation."""


def shares_of(isa: str) -> dict[str, float]:
    """Of all types, with the kernels of ``isa``."""
    return {**SHARES, **WORD_SHARES.get(isa, WORD_SHARES["avx2"])}


@dataclass(frozen=True)
class Speeds:
    """How fast a machine reads weights of each type while it multiplies with them."""

    bandwidth: float = 20e9
    """Bytes a second that all threads together read of memory. What is better than what does not depend on
    it."""
    shares: Mapping[str, float] = field(default_factory=lambda: shares_of(active_isa()))
    ratio: float = 1.0
    """Of tokens a second measured in earlier runs, to what was foreseen."""

    def scaled(self, ratio: float) -> Speeds:
        """With a correction of what is foreseen."""
        return replace(self, ratio=self.ratio * ratio)

    def weight_seconds(self, type_name: str, nbytes: float) -> float:
        """To read ``nbytes`` of weights of a type once."""
        return nbytes / (self.bandwidth * self.shares.get(type_name.upper(), OTHER_TYPES))

    def weights_seconds(self, headers: Sequence[GgufHeader]) -> float:
        """To read what one decode step needs of all weights."""
        shares = read_shares(headers)
        return sum(
            self.weight_seconds(
                tensor.format if isinstance(tensor, PackedTensor) else tensor.type.name,
                tensor.nbytes * shares[tensor.name],
            )
            for header in headers
            for tensor in header.all_tensors
        )

    def token_seconds(self, headers: Sequence[GgufHeader], cache_bytes: int) -> float:
        """Of one decode step with a cache of ``cache_bytes``, a quarter of it filled."""
        layers = headers[0].hyper_int("block_count") or 0
        weights = self.weights_seconds(headers)
        whole = weights + cache_bytes * FILLED / self.bandwidth + layers * LAYER_SECONDS
        return whole / self.ratio
