"""What a GGUF file is for, and the rules that each use adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from runtime.gguf.metadata import RawMetadata
from runtime.gguf.source import Source
from runtime.gguf.tensor_info import TensorInfo
from runtime.gguf.values import ArrayRef, Value, decode_numbers

Role: TypeAlias = Literal["model", "mmproj", "lora", "imatrix", "vocab"]

DESCRIPTIONS: Final[Mapping[Role, str]] = {
    "model": "a model",
    "mmproj": "a multimodal projector, which belongs to a model",
    "lora": "a LoRA adapter, which belongs to a model",
    "imatrix": "an importance matrix, which serves to quantize a model",
    "vocab": "a vocabulary without a model",
}


def find_role(values: Mapping[str, Value], tensors: tuple[TensorInfo, ...]) -> Role:
    """By ``general.type`` and the keys; a part of a split model is a model."""
    kind = values.get("general.type")
    if kind == "adapter" or "adapter.type" in values:
        return "lora"
    if kind == "mmproj" or values.get("general.architecture") == "clip":
        return "mmproj"
    if kind == "imatrix" or "imatrix.chunk_count" in values:
        return "imatrix"
    split = values.get("split.count", 0)
    if not tensors and not (isinstance(split, int) and split > 1):
        return "vocab"
    return "model"


def check_role(source: Source, raw: RawMetadata, role: Role, tensors: tuple[TensorInfo, ...]) -> None:
    """Raises :class:`GgufError` at a file that breaks the rules of its use."""
    if role == "lora":
        _check_adapter(source, raw, tensors)
    elif role == "mmproj":
        _check_projector(source, raw)
    elif role == "imatrix":
        _check_imatrix(source, tensors)


def _check_adapter(source: Source, raw: RawMetadata, tensors: tuple[TensorInfo, ...]) -> None:
    """Every ``.lora_a`` has its ``.lora_b``, with the same rank and number of experts."""
    if raw.values.get("adapter.type", "lora") != "lora":
        raise source.refuse(
            "bad-adapter", f"is an adapter of the type {raw.values['adapter.type']!r}; LoRA is supported"
        )
    by_name = {tensor.name: tensor for tensor in tensors}
    for name, tensor in by_name.items():
        stem, _, suffix = name.rpartition(".")
        if suffix not in ("lora_a", "lora_b"):
            if name.endswith("_norm.weight"):
                continue
            raise source.refuse("bad-adapter", f"the tensor {name} is neither a .lora_a nor a .lora_b")
        other = by_name.get(f"{stem}.{'lora_b' if suffix == 'lora_a' else 'lora_a'}")
        if other is None:
            raise source.refuse("bad-adapter", f"the tensor {name} has no counterpart")
        if suffix == "lora_a":
            _check_pair(source, stem, tensor, other)


def _check_pair(source: Source, stem: str, first: TensorInfo, second: TensorInfo) -> None:
    # The token embedding's first factor is stored transposed.
    rank = first.shape[0] if stem.endswith("token_embd.weight") else (*first.shape, 1)[1]
    if rank != second.shape[0]:
        raise source.refuse(
            "bad-adapter", f"the factors of {stem} have the ranks {rank} and {second.shape[0]}"
        )
    if (*first.shape, 1, 1, 1)[2:4] != (*second.shape, 1, 1, 1)[2:4]:
        raise source.refuse("bad-adapter", f"the factors of {stem} are for different numbers of experts")


def _check_projector(source: Source, raw: RawMetadata) -> None:
    values = raw.values
    if not any(values.get(f"clip.has_{part}_encoder") for part in ("vision", "audio", "gen_audio")):
        raise source.refuse("bad-projector", "has no vision and no audio encoder")
    if values.get("clip.use_gelu") and values.get("clip.use_silu"):
        raise source.refuse("bad-projector", "claims two activations, GELU and SiLU")
    for key in ("clip.vision.image_min_pixels", "clip.vision.preproc_min_tiles"):
        least, most = values.get(key), values.get(key.replace("_min_", "_max_"))
        if isinstance(least, int) and isinstance(most, int) and least > most > 0:
            raise source.refuse("out-of-range", f"{key} is {least}, more than the greatest, {most}")
    pinpoints = values.get("clip.vision.image_grid_pinpoints")
    if isinstance(pinpoints, ArrayRef) and pinpoints.count % 2:
        raise source.refuse("out-of-range", "clip.vision.image_grid_pinpoints holds half a pair")
    for part in ("vision", "audio"):
        blocks, layers = values.get(f"clip.{part}.block_count"), values.get(f"clip.{part}.feature_layer")
        if isinstance(blocks, int) and isinstance(layers, ArrayRef) and layers.data is not None:
            highest = max(decode_numbers(layers.type, layers.data), default=0)
            if highest > blocks:
                raise source.refuse(
                    "out-of-range", f"clip.{part}.feature_layer names layer {highest} of {blocks}"
                )


def _check_imatrix(source: Source, tensors: tuple[TensorInfo, ...]) -> None:
    names = {tensor.name for tensor in tensors}
    for tensor in tensors:
        stem, _, suffix = tensor.name.rpartition(".")
        if suffix in ("in_sum2", "counts"):
            other = f"{stem}.{'counts' if suffix == 'in_sum2' else 'in_sum2'}"
            if tensor.type.name != "F32" or other not in names:
                raise source.refuse("bad-imatrix", f"the tensor {tensor.name} has no F32 counterpart {other}")
