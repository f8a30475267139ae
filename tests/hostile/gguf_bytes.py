"""Writing GGUF files byte by byte: small valid ones of every role, and any lie that a field can tell."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "B",
    U64: "Q",
    I64: "q",
    F64: "d",
}

Value = bytes
Keys = Mapping[str, Value]


def text(content: str | bytes) -> bytes:
    """A string: its length and its bytes."""
    data = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(data)) + data


def value(kind: int, content: float) -> Value:
    """A number or bool of a metadata key, behind its type."""
    return struct.pack(f"<I{FORMATS[kind]}", kind, content)


def u32(content: int) -> Value:
    return value(U32, content)


def f32(content: float) -> Value:
    return value(F32, content)


def flag(content: bool) -> Value:
    return value(BOOL, content)


def string(content: str | bytes) -> Value:
    return struct.pack("<I", STRING) + text(content)


def numbers(kind: int, content: Sequence[float], *, count: int | None = None) -> Value:
    """An array of numbers; ``count`` is what it claims to hold."""
    claimed = len(content) if count is None else count
    return struct.pack("<IIQ", ARRAY, kind, claimed) + struct.pack(
        f"<{len(content)}{FORMATS[kind]}", *content
    )


def strings(content: Sequence[str | bytes], *, count: int | None = None) -> Value:
    claimed = len(content) if count is None else count
    return struct.pack("<IIQ", ARRAY, STRING, claimed) + b"".join(map(text, content))


@dataclass(frozen=True)
class Tensor:
    """An entry of the tensor table; what is None is computed, as a writer would."""

    name: str | bytes
    shape: tuple[int, ...] = (32,)
    kind: int = 0
    dimensions: int | None = None
    offset: int | None = None
    nbytes: int | None = None


def build(
    keys: Keys | Sequence[tuple[str | bytes, Value]] = (),
    tensors: Sequence[Tensor] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
    padded: bool = True,
) -> bytes:
    """A whole file. Counts default to the truth; ``padded`` is about the last tensor."""
    pairs = list(keys.items()) if isinstance(keys, Mapping) else list(keys)
    table = b""
    data = b""
    for tensor in tensors:
        nbytes = prod(tensor.shape) * 4 if tensor.nbytes is None else tensor.nbytes
        offset = len(data) if tensor.offset is None else tensor.offset
        dimensions = len(tensor.shape) if tensor.dimensions is None else tensor.dimensions
        table += text(tensor.name) + struct.pack(f"<I{len(tensor.shape)}q", dimensions, *tensor.shape)
        table += struct.pack("<IQ", tensor.kind, offset % (1 << 64))
        data += _pad(bytes(nbytes), alignment)
    if tensors and not padded:
        last = tensors[-1]
        data = data[: len(data) - len(_pad(bytes(prod(last.shape) * 4), alignment)) + prod(last.shape) * 4]
    header = magic + struct.pack(
        "<IQQ",
        version,
        (len(tensors) if tensor_count is None else tensor_count) % (1 << 64),
        (len(pairs) if key_count is None else key_count) % (1 << 64),
    )
    header += b"".join(text(key) + content for key, content in pairs)
    return _pad(header + table, alignment) + data if tensors else header + table


def _pad(data: bytes, alignment: int) -> bytes:
    return data + bytes(-len(data) % alignment) if alignment > 0 else data


SPM_TOKENS = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "b", "ab")
SPM_TYPES = (2, 3, 3, *[6] * 256, 1, 1, 1, 1)

BPE_TOKENS = (*"abcdefghij", "ab", "<|end|>", "\u0120", "\u010a")

BLOCK = (
    Tensor("output_norm.weight", (32,)),
    Tensor("blk.0.attn_norm.weight", (32,)),
    Tensor("blk.0.attn_q.weight", (32, 32)),
    Tensor("blk.0.attn_k.weight", (32, 16)),
    Tensor("blk.0.attn_v.weight", (32, 16)),
    Tensor("blk.0.attn_output.weight", (32, 32)),
    Tensor("blk.0.ffn_norm.weight", (32,)),
    Tensor("blk.0.ffn_gate.weight", (32, 64)),
    Tensor("blk.0.ffn_up.weight", (32, 64)),
    Tensor("blk.0.ffn_down.weight", (64, 32)),
)
WEIGHTS = (Tensor("token_embd.weight", (32, len(SPM_TOKENS))), *BLOCK)
BPE_WEIGHTS = (Tensor("token_embd.weight", (32, len(BPE_TOKENS))), *BLOCK)


def llama_keys(**changes: Value | None) -> dict[str, Value]:
    """The metadata of a small model with a SentencePiece vocabulary; None removes a key.

    A key is written with ``__`` for its dots: ``llama__block_count=u32(0)``.
    """
    keys: dict[str, Value] = {
        "general.architecture": string("llama"),
        "general.name": string("tiny"),
        "general.file_type": u32(0),
        "general.license": string("apache-2.0"),
        "llama.context_length": u32(256),
        "llama.embedding_length": u32(32),
        "llama.block_count": u32(1),
        "llama.feed_forward_length": u32(64),
        "llama.attention.head_count": u32(4),
        "llama.attention.head_count_kv": u32(2),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "llama.rope.dimension_count": u32(8),
        "llama.rope.freq_base": f32(10000.0),
        "tokenizer.ggml.model": string("llama"),
        "tokenizer.ggml.tokens": strings(SPM_TOKENS),
        "tokenizer.ggml.scores": numbers(F32, [-float(token) for token in range(len(SPM_TOKENS))]),
        "tokenizer.ggml.token_type": numbers(I32, SPM_TYPES),
        "tokenizer.ggml.bos_token_id": u32(1),
        "tokenizer.ggml.eos_token_id": u32(2),
        "tokenizer.ggml.unknown_token_id": u32(0),
        "tokenizer.ggml.add_bos_token": flag(True),
        "tokenizer.chat_template": string("{% for m in messages %}{{ m.content }}{% endfor %}"),
    }
    return _changed(keys, changes)


def bpe_keys(**changes: Value | None) -> dict[str, Value]:
    """The same with a byte-pair vocabulary."""
    keys = llama_keys(
        tokenizer__ggml__model=string("gpt2"),
        tokenizer__ggml__pre=string("gpt-2"),
        tokenizer__ggml__tokens=strings(BPE_TOKENS),
        tokenizer__ggml__scores=None,
        tokenizer__ggml__token_type=numbers(I32, [1] * 11 + [3, 1, 1]),
        tokenizer__ggml__merges=strings(["a b", "a c"]),
        tokenizer__ggml__bos_token_id=u32(11),
        tokenizer__ggml__eos_token_id=u32(11),
        tokenizer__ggml__unknown_token_id=None,
    )
    return _changed(keys, changes)


def model(**changes: Value | None) -> bytes:
    return build(llama_keys(**changes), WEIGHTS)


def bpe_model(**changes: Value | None) -> bytes:
    return build(bpe_keys(**changes), BPE_WEIGHTS)


def projector(**changes: Value | None) -> bytes:
    """A multimodal projector for images."""
    keys: dict[str, Value] = {
        "general.architecture": string("clip"),
        "general.type": string("mmproj"),
        "clip.has_vision_encoder": flag(True),
        "clip.projector_type": string("mlp"),
        "clip.use_gelu": flag(True),
        "clip.vision.image_size": u32(224),
        "clip.vision.patch_size": u32(14),
        "clip.vision.embedding_length": u32(64),
        "clip.vision.feed_forward_length": u32(128),
        "clip.vision.block_count": u32(2),
        "clip.vision.projection_dim": u32(32),
        "clip.vision.attention.head_count": u32(4),
        "clip.vision.attention.layer_norm_epsilon": f32(1e-5),
        "clip.vision.image_mean": numbers(F32, [0.5] * 3),
        "clip.vision.image_std": numbers(F32, [0.5] * 3),
        "clip.vision.feature_layer": numbers(I32, [1, 2]),
        "clip.vision.image_grid_pinpoints": numbers(I32, [336, 672]),
    }
    return build(_changed(keys, changes), [Tensor("v.patch_embd.weight", (14, 14, 3, 64))])


ADAPTER_PAIR = (
    Tensor("blk.0.attn_q.weight.lora_a", (32, 4)),
    Tensor("blk.0.attn_q.weight.lora_b", (4, 32)),
)


def adapter(tensors: Sequence[Tensor] = ADAPTER_PAIR, **changes: Value | None) -> bytes:
    """A LoRA adapter of rank 4."""
    keys: dict[str, Value] = {
        "general.architecture": string("llama"),
        "general.type": string("adapter"),
        "adapter.type": string("lora"),
        "adapter.lora.alpha": f32(16.0),
    }
    return build(_changed(keys, changes), tensors)


IMATRIX_PAIR = (
    Tensor("blk.0.attn_q.weight.in_sum2", (32, 1)),
    Tensor("blk.0.attn_q.weight.counts", (1, 1)),
)


def imatrix(tensors: Sequence[Tensor] = IMATRIX_PAIR, **changes: Value | None) -> bytes:
    """An importance matrix."""
    keys: dict[str, Value] = {
        "general.type": string("imatrix"),
        "imatrix.datasets": strings(["text.txt"]),
        "imatrix.chunk_count": u32(10),
        "imatrix.chunk_size": u32(512),
    }
    return build(_changed(keys, changes), tensors)


def split_part(
    number: int, count: int, tensors: Sequence[Tensor], total: int, **changes: Value | None
) -> bytes:
    """Part ``number``, from 0, of a model in ``count`` files; the first holds the metadata."""
    keys: dict[str, Value] = llama_keys() if number == 0 else {}
    keys |= {
        "split.no": value(U16, number),
        "split.count": value(U16, count),
        "split.tensors.count": value(I32, total),
    }
    return build(_changed(keys, changes), tensors)


def _changed(keys: dict[str, Value], changes: Mapping[str, Value | None]) -> dict[str, Value]:
    changed = dict(keys)
    for name, content in changes.items():
        key = name.replace("__", ".")
        if content is None:
            del changed[key]
        else:
            changed[key] = content
    return changed
