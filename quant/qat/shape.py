"""What a GGUF's header says of a decoder that is to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from quant.errors import CannotTrain
from runtime.gguf import GgufHeader

ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")


@dataclass(frozen=True)
class Shape:
    """Hyperparameters of a decoder."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    rotated: int
    """Of a head's dimensions."""
    rope_base: float
    neighbours: bool
    """Whether rotary positions turn neighbouring pairs of dimensions, or pairs that are half a head apart."""
    epsilon: float


def shape_of(header: GgufHeader) -> Shape:
    """Raises :class:`CannotTrain` for a model that is computed otherwise than is known here."""
    name = header.architecture
    if name not in ARCHITECTURES:
        raise CannotTrain(
            f"{header.path.name} is of the architecture {name!r}: {', '.join(ARCHITECTURES)} are trained so "
            "far; quantize it without training"
        )
    names = {tensor.name for tensor in header.tensors}
    for sign, what in (("ffn_gate_exps", "experts"), ("rope_freqs", "scaled rotary positions")):
        if any(sign in tensor for tensor in names):
            raise CannotTrain(f"{header.path.name} has {what}: such models are not trained yet")
    if header.get(f"{name}.rope.scaling.type", str, "none") != "none":
        raise CannotTrain(f"{header.path.name} has scaled rotary positions: such models are not trained yet")

    def number(key: str) -> int:
        found = header.hyper_int(key)
        if found is None:
            raise CannotTrain(f"{header.path.name} does not say its {key}: it cannot be trained")
        return found

    heads, width = number("attention.head_count"), number("embedding_length")
    head = header.hyper_int("attention.key_length") or width // heads
    return Shape(
        layers=number("block_count"),
        width=width,
        heads=heads,
        kv_heads=header.hyper_int("attention.head_count_kv") or heads,
        head=head,
        rotated=header.hyper_int("rope.dimension_count") or head,
        rope_base=header.get(f"{name}.rope.freq_base", float, 10_000.0),
        neighbours=name == "llama",
        epsilon=header.get(f"{name}.attention.layer_norm_rms_epsilon", float, 1e-5),
    )
