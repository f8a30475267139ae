"""The widths of a model that decide how much memory it takes beside its weights, read from its header alone.

Source of the facts: what llama.cpp 0c1e57098 does with each architecture's hyperparameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runtime.budget.windows import windowed_layers
from runtime.errors import GgufError
from runtime.gguf import ArrayRef, GgufHeader

Recurrence = Literal["", "mamba", "mamba2", "delta", "wkv", "convolution", "linear"]

_RECURRENT: dict[str, Recurrence] = {
    "mamba": "mamba",
    "mamba2": "mamba2",
    "rwkv6": "wkv",
    "rwkv6qwen2": "wkv",
    "rwkv7": "wkv",
    "arwkv7": "wkv",
}
"""Every layer is recurrent."""

_HYBRID: dict[str, Recurrence] = {
    "bailingmoe3": "delta",
    "falcon-h1": "mamba2",
    "glm5-next": "delta",
    "granitehybrid": "mamba2",
    "jamba": "mamba",
    "kimi-k3": "delta",
    "kimi-linear": "delta",
    "lfm2": "convolution",
    "lfm2moe": "convolution",
    "minimax-01": "linear",
    "nemotron_h": "mamba2",
    "nemotron_h_moe": "mamba2",
    "plamo2": "mamba2",
    "qwen35": "delta",
    "qwen35moe": "delta",
    "qwen3next": "delta",
    "qwen4exp": "delta",
}
"""Some layers are recurrent, others attend (in falcon-h1 each does both)."""

_INTERVALS = {"minimax-01": 8, "qwen35": 4, "qwen35moe": 4, "qwen3next": 4, "qwen4exp": 4}
"""One layer in so many attends; elsewhere the layers without key heads are the recurrent ones."""

_GATES = frozenset({"ffn_gate", "ffn_gate_exps", "ffn_gate_up_exps"})
_FUSED_GATES = frozenset({"glm4", "phi3"})
"""Gate and up are one matrix, called ffn_up."""

_WITHOUT_CACHE = frozenset(
    {
        "bert",
        "dream",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llada",
        "llada-moe",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "rnd1",
        "wavtokenizer-dec",
    }
)


@dataclass(frozen=True, slots=True)
class Layer:
    """Elements that one layer keeps: of keys and values for a token, of recurrent state for a sequence."""

    key_width: int
    value_width: int
    windowed: bool
    state: int


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths are elements of a token's activations; those of layers are the largest of all layers."""

    architecture: str
    trained_context: int
    vocabulary: int
    layers: tuple[Layer, ...]
    window: int
    embedding: int
    query: int
    head: tuple[int, int]
    """Elements of one head's keys and values, as cached."""
    feed_forward: int
    feed_forward_parts: int
    """Activations of that width that live at once: 3 with a gate, 2 without."""
    experts_used: int
    expert: int
    recurrence: Recurrence
    inner: int
    convolved: int
    projected: int
    """Of the state space layers: inner width, convolved channels, width of the input projection."""
    per_layer_input: int
    residual_streams: int

    @property
    def attends(self) -> bool:
        """Whether any layer has keys and values."""
        return any(layer.key_width for layer in self.layers)

    @property
    def latent(self) -> bool:
        """Whether values are read off the compressed keys (multi-head latent attention)."""
        return any(layer.key_width and not layer.value_width for layer in self.layers)


def read_shape(header: GgufHeader) -> Shape:
    """The shape of the model behind a header. Raises GgufError where a needed hyperparameter is missing."""
    architecture = header.architecture
    total = _required(header, "block_count")
    embedding = _required(header, "embedding_length")
    count = total - min(total, header.hyper_int("nextn_predict_layers", 0) or 0)
    heads = header.per_layer("attention.head_count", 0) or ()
    kv_heads = header.per_layer("attention.head_count_kv") or heads
    widths = header.per_layer("feed_forward_length", 0) or ()
    window, windowed = windowed_layers(header, count)
    recurrence = _RECURRENT.get(architecture) or _HYBRID.get(architecture) or ""
    recurs = _recurrent_layers(header, count, kv_heads, widths)
    attends = _attending_layers(header, count, recurs, widths)
    head = _head(header, embedding, heads[0], "")
    head_swa = _head(header, embedding, heads[0], "_swa")
    latent = _is_latent(header)
    indexer = header.hyper_int("attention.indexer.key_length", 0) or 0
    state = _state(header, embedding, heads[0], head[0])
    layers = []
    for index in range(count):
        key, value = head_swa if windowed[index] else head
        keeps = attends[index]
        layers.append(
            Layer(
                key_width=kv_heads[index] * key + indexer if keeps else 0,
                value_width=0 if latent or not keeps else kv_heads[index] * value,
                windowed=windowed[index],
                state=state if recurs[index] else 0,
            )
        )
    inner, state_size = (header.hyper_int(f"ssm.{key}", 0) or 0 for key in ("inner_size", "state_size"))
    group = header.hyper_int("ssm.group_count", 0) or 0
    convolved = inner + 2 * group * state_size
    names = {tensor.name.partition(".weight")[0].split(".")[-1] for tensor in header.all_tensors}
    used = header.hyper_int("expert_used_count", 0) or 0
    gated = bool(names & _GATES) or architecture in _FUSED_GATES
    return Shape(
        architecture=architecture,
        trained_context=header.hyper_int("context_length", 0) or 0,
        vocabulary=_vocabulary(header),
        layers=tuple(layers),
        window=window,
        embedding=embedding,
        query=max(heads) * max(head[0], head_swa[0]),
        head=(max(head[0], head_swa[0]), max(head[1], head_swa[1])),
        feed_forward=max(widths) if not names.isdisjoint({"ffn_up", "channel_mix_key"}) else 0,
        feed_forward_parts=3 if gated else 2,
        experts_used=used,
        expert=(header.hyper_int("expert_feed_forward_length", 0) or max(widths)) if used else 0,
        recurrence=recurrence,
        inner=inner,
        convolved=convolved,
        projected=inner + convolved + (header.hyper_int("ssm.time_step_rank", 0) or 0),
        per_layer_input=count * _per_layer_input(header),
        residual_streams=4 if architecture == "gemma3n" else 1,
    )


def _recurrent_layers(
    header: GgufHeader, count: int, kv_heads: tuple[int, ...], widths: tuple[int, ...]
) -> tuple[bool, ...]:
    architecture = header.architecture
    if architecture in _RECURRENT or architecture == "falcon-h1":
        return (True,) * count
    if architecture not in _HYBRID:
        return (False,) * count
    if architecture in _INTERVALS:
        listed = header.per_layer("attention.recurrent_layers")
        if listed is not None:
            return tuple(map(bool, listed[:count]))
        interval = header.hyper_int("full_attention_interval", _INTERVALS[architecture]) or 1
        return tuple((layer + 1) % interval != 0 for layer in range(count))
    if architecture.startswith("nemotron_h"):
        return tuple(not kv_heads[layer] and not widths[layer] for layer in range(count))
    return tuple(not kv_heads[layer] for layer in range(count))


def _attending_layers(
    header: GgufHeader, count: int, recurs: tuple[bool, ...], widths: tuple[int, ...]
) -> tuple[bool, ...]:
    """Layers with keys and values of their own."""
    architecture = header.architecture
    if architecture in _RECURRENT or architecture in _WITHOUT_CACHE:
        return (False,) * count
    if architecture == "falcon-h1":
        return (True,) * count
    if architecture.startswith("nemotron_h"):
        return tuple(not recurs[layer] and not widths[layer] for layer in range(count))
    own = count
    if architecture == "gemma3n":
        own = 20
    elif architecture == "gemma4":
        own = count - (header.hyper_int("attention.shared_kv_layers", 0) or 0)
    return tuple(not recurs[layer] and layer < own for layer in range(count))


def _head(header: GgufHeader, embedding: int, heads: int, suffix: str) -> tuple[int, int]:
    """Elements of one head's key and value."""
    if heads == 0:
        return 0, 0
    lengths = []
    for kind in ("key", "value"):
        whole = header.hyper_int(f"attention.{kind}_length", embedding // heads)
        lengths.append(header.hyper_int(f"attention.{kind}_length{suffix}", whole) or 0)
    return lengths[0], lengths[1]


def _is_latent(header: GgufHeader) -> bool:
    """Multi-head latent attention: one compressed key a token, from which the values come too."""
    return bool(
        header.hyper_int("attention.key_length_mla") and header.hyper_int("attention.value_length_mla")
    )


def _state(header: GgufHeader, embedding: int, heads: int, head: int) -> int:
    """Elements of f32 that a recurrent layer keeps of a sequence: the convolution's past and the state."""

    def number(key: str, default: int = 0) -> int:
        return header.hyper_int(key, default) or 0

    inner, state, kernel = number("ssm.inner_size"), number("ssm.state_size"), number("ssm.conv_kernel")
    past = max(0, kernel - 1) * (inner + 2 * number("ssm.group_count") * state)
    if size := number("wkv.head_size"):
        return number("token_shift_count", 2) * embedding + embedding * size
    if length := number("shortconv.l_cache"):
        return embedding * (length - 1) + state * inner
    if size := number("kda.head_dim"):
        return 3 * (max(0, kernel - 1) or 3) * heads * size + size * size * heads
    if header.architecture == "minimax-01":
        return past + head * head * heads
    return past + state * inner


def _per_layer_input(header: GgufHeader) -> int:
    default = 256 if header.architecture == "gemma3n" else 0
    return header.hyper_int("embedding_length_per_layer_input", default) or 0


def _vocabulary(header: GgufHeader) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, ArrayRef):
        return tokens.count
    return header.hyper_int("vocab_size", 0) or 0


def _required(header: GgufHeader, key: str) -> int:
    value = header.hyper_int(key)
    if not value or value < 0:
        raise GgufError(
            header.path,
            "missing-hyperparameter",
            f"{header.architecture or 'the model'}.{key} is missing: not a language model that can run",
        )
    return value
