"""Bytes of the weights as they lie in memory: mapped from the file, read into buffers, repacked, on a device.

localq's kernels take matrices of their types in strips of rows, and small tensors in F32 as they are, and
let go of a mapped file's pages as they do: there is one copy at any time. Of what is left, llama.cpp rewrites
some types for kernels of its own. From a mapped file that makes a second copy while the first stays resident;
read into buffers, only the rewritten one exists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from runtime.gguf import GgufHeader, TensorInfo
from runtime.gguf.packed import LOOKED_UP, PackedTensor

STRIP_ROWS = 16
"""localq's kernels pack matrices in as many rows, the last ones filled up."""
PLAIN_BYTES = 1 << 20
"""Tensors in F32 of at most so much go where the packed ones are."""
ROWS_TOGETHER = 8
WORTH_MAPPING = 0.1
"""A file is mapped when at most this share of it would be repacked."""
AMX_GROWTH = 9 / 8
"""Largest growth by AMX's layout, of Q8_0: sums of each block's codes beside it."""

_X86 = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
_ARM = frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"})
_AMX = frozenset({"Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"})
_LAYER = re.compile(r"^blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class WeightSize:
    """``layers``: bytes of each layer; ``output`` those behind the last, ``host`` those before the first.

    ``mapped`` are pages of the file that stay resident, which the system may drop and read again; 0 when the
    file is not mapped. ``loaded`` are bytes in buffers.
    """

    layers: tuple[int, ...]
    output: int
    host: int
    repacked: int
    mapped: int
    loaded: int

    @property
    def bytes(self) -> int:
        return self.mapped + self.loaded


def weight_size(
    headers: Sequence[GgufHeader],
    layers: int,
    features: Collection[str],
    *,
    mapped: bool,
    packs: Collection[str] = (),
) -> WeightSize:
    """The weights of a model of ``layers`` layers in the files behind ``headers``, all of it on the host.

    ``packs`` are the types that localq's kernels take.
    """
    per_layer, output, host = [0] * layers, 0, 0
    repacked, plain, pages = 0, 0, 0
    packed_pages, packed_beside = 0, 0
    has_output = any(tensor.name == "output.weight" for header in headers for tensor in header.all_tensors)
    for header in headers:
        bounds: list[tuple[int, int]] = []
        packed: list[TensorInfo] = []
        for tensor in header.tensors:
            layer = layer_of(tensor)
            if layer is not None and layer >= layers:
                continue  # a draft head, which the engine does not load
            tied = tensor.name == "token_embd.weight" and not has_output
            one_copy = tied and tensor.type.name in packs  # packed once, for looking up and as the output
            growth = _repacked_bytes(tensor, features, packs, looked_up=not one_copy)
            size = growth or tensor.nbytes
            if layer is not None:
                per_layer[layer] += size
            elif LOOKED_UP.match(tensor.name):
                host += size
            else:
                output += size
            if growth:
                repacked += growth
                packed += [tensor] if _let_go(tensor, packs) else []
            else:
                plain += tensor.nbytes
                bounds.append((tensor.offset, tensor.offset + tensor.nbytes))
            if tied and not one_copy:
                # the same matrix is the output's: shared where it lies as it is, copied where it is repacked
                twin = _repacked_bytes(tensor, features, packs, looked_up=False)
                output += twin
                repacked += twin
        for own in header.packed.tensors if header.packed else ():
            layer = layer_of(own)
            if layer is None:
                output += own.nbytes
            elif layer < layers:
                per_layer[layer] += own.nbytes
        if header.packed is not None:
            # llama.cpp reads the rest; inputs and tables are copied, for they are checked first
            packed_pages += header.packed.nbytes
            packed_beside += sum(entry.nbytes for entry in header.packed.inputs)
            packed_beside += sum(table.nbytes for table in header.packed.tables)
        elif bounds:
            first, last = min(start for start, _ in bounds), max(end for _, end in bounds)
            pages += last - first - sum(each.nbytes for each in packed if first < each.offset < last)
    if packed_pages:
        loaded = repacked + plain + packed_beside + (0 if mapped else packed_pages)
    else:
        loaded = repacked if mapped else repacked + plain
    return WeightSize(
        layers=tuple(per_layer),
        output=output,
        host=host + packed_beside,
        repacked=repacked,
        mapped=pages + packed_pages if mapped else 0,
        loaded=loaded,
    )


def best_mmap(
    headers: Sequence[GgufHeader] | GgufHeader, features: Collection[str], packs: Collection[str] = ()
) -> bool:
    """Whether to map the file: not when llama.cpp would keep a repacked copy of most of it beside the map.

    Reading costs a copy at load (0.1 to 0.5 s a GB from a warm page cache) and nothing afterwards. Matrices
    in formats of localq's own are multiplied where they are mapped.
    """
    if isinstance(headers, GgufHeader):
        headers = (headers,)
    if any(header.packed is not None for header in headers):
        return True
    total = sum(tensor.nbytes for header in headers for tensor in header.tensors)
    repacked = sum(
        _repacked_bytes(tensor, features, packs)
        for header in headers
        for tensor in header.tensors
        if not _let_go(tensor, packs)
    )
    return repacked <= WORTH_MAPPING * total


def layer_of(tensor: TensorInfo | PackedTensor) -> int | None:
    """The layer that a tensor belongs to; None for those before and behind all layers."""
    match = _LAYER.match(tensor.name)
    return int(match[1]) if match else None


def _is_plain(tensor: TensorInfo, packs: Collection[str]) -> bool:
    return bool(packs) and tensor.type.name == "F32" and tensor.nbytes <= PLAIN_BYTES


def _let_go(tensor: TensorInfo, packs: Collection[str]) -> bool:
    return tensor.type.name in packs or _is_plain(tensor, packs)


def _repacked_bytes(
    tensor: TensorInfo, features: Collection[str], packs: Collection[str], *, looked_up: bool = True
) -> int:
    """Bytes of what is rewritten or taken; 0 when it stays as it is."""
    if _is_plain(tensor, packs):
        return tensor.nbytes
    if looked_up and LOOKED_UP.match(tensor.name):
        return 0
    experts = len(tensor.shape) == 3 and tensor.name.split(".")[-2].endswith("_exps")
    if len(tensor.shape) != 2 and not experts:
        return 0
    kind, rows = tensor.type.name, tensor.shape[1]
    if kind in packs:
        return tensor.nbytes // rows * (-(-rows // STRIP_ROWS) * STRIP_ROWS)
    if "amx_int8" in features and kind in _AMX and not experts:
        return int(tensor.nbytes * AMX_GROWTH)
    if rows % ROWS_TOGETHER:
        return 0
    if "avx2" in features:
        taken = kind in _X86 or (kind == "Q2_K" and "avx512f" in features)
    else:
        taken = kind in _ARM and bool({"dotprod", "i8mm"} & set(features))
    return tensor.nbytes if taken else 0
