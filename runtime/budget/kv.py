"""Bytes of the KV cache and of recurrent state, as llama.cpp allocates them for the engine's contexts.

Every slot has a stream of cells of its own, as long as its context, rounded up to 256. Layers with a window
keep the window and one batch, again rounded up, but never more than the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.budget.shape import Shape
from runtime.engine.config import EngineConfig, KvType
from runtime.errors import InvalidRequest
from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME, GgmlType

CELL_PADDING = 256
STATE_ELEMENT = 4
CELL_RECORD = 160
"""Host bytes that llama.cpp keeps for each used cell beside its keys: position, sequences, two tree nodes."""


@dataclass(frozen=True, slots=True)
class CacheSize:
    """``layers``: bytes for each layer, cache and state together; ``record_bytes`` stay on the host.

    ``cells`` and ``window_cells`` are those of one slot.
    """

    layers: tuple[int, ...]
    cells: int
    window_cells: int
    record_bytes: int

    @property
    def bytes(self) -> int:
        return sum(self.layers)


def cache_size(shape: Shape, config: EngineConfig) -> CacheSize:
    """The cache of a model for a configuration; InvalidRequest where the type does not fit the heads."""
    kind = kv_storage(config.kv_type)
    if shape.attends and any(length % kind.block_size for length in shape.head):
        raise InvalidRequest(
            f"{config.kv_type} keeps keys and values in blocks of {kind.block_size}, which does not divide "
            f"the heads of this model ({shape.head[0]} and {shape.head[1]}): use --kv f16",
            field="kv_type",
        )
    slots = max(1, config.slots)
    cells = slot_cells(config)
    window_cells = 0
    if shape.window:
        wanted = shape.window + min(config.ubatch_tokens, cells * slots)
        window_cells = round_up(min(cells, wanted), CELL_PADDING)
    layers = []
    for layer in shape.layers:
        rows = slots * (window_cells if layer.windowed else cells)
        cached = rows * (kind.row_bytes(layer.key_width) + kind.row_bytes(layer.value_width))
        layers.append(cached + slots * layer.state * STATE_ELEMENT)
    records = slots * (cells + window_cells) * CELL_RECORD if shape.attends else 0
    return CacheSize(tuple(layers), cells, window_cells, records)


def kv_storage(kv_type: KvType) -> GgmlType:
    """The tensor type of a KV type."""
    return GGML_TYPES_BY_NAME[kv_type.upper()]


def slot_cells(config: EngineConfig) -> int:
    """Cells of one slot."""
    slots = max(1, config.slots)
    together = round_up(config.context_tokens * slots, CELL_PADDING)
    return round_up(together // slots, CELL_PADDING)


def round_up(count: int, step: int) -> int:
    """``count`` rounded up to a multiple of ``step``."""
    return -(-count // step) * step
