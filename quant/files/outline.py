"""The file to write, from its plan and what is known for its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quant.activations import activation_keys
from quant.allocation.plan import Plan, entries
from quant.allocation.recipe import FILE_TYPES
from quant.certificate.document import Certificate
from quant.certificate.first import first_certificate
from quant.certificate.keys import to_keys
from quant.files.layout import FileLayout, Key, TensorEntry, inherited_pairs, lay_out
from quant.files.packed_layout import PackedEntry, lay_out_packed
from quant.files.source import Source
from quant.request import QuantizeRequest
from runtime.gguf.values import ValueType

QUANTIZATION_VERSION: Final = 2
"""Of ggml's block formats; files of version 1 are no longer read."""


def lay_out_file(
    source: Source,
    request: QuantizeRequest,
    plan: Plan,
    digests: Sequence[str],
    certificate: Certificate | None = None,
) -> FileLayout:
    """The file with this certificate in it, or with the first one. Its length is the same for both."""
    found = certificate or first_certificate(source, request, plan, digests)
    planned = entries(source.tensors, plan)
    table = [entry for entry in planned if isinstance(entry, TensorEntry)]
    packed = lay_out_packed([entry for entry in planned if isinstance(entry, PackedEntry)])
    keys = [
        Key("general.quantization_version", ValueType.U32, QUANTIZATION_VERSION),
        Key("general.file_type", ValueType.U32, file_type(source, request, plan)),
        *to_keys(found),
        *activation_keys(plan.formats, plan.static),
        *packed.keys,
    ]
    return packed.behind(lay_out(inherited_pairs(source.header), keys, table, source.header.alignment))


def file_type(source: Source, request: QuantizeRequest, plan: Plan) -> int:
    """The number of the mixture that was asked for; else that of ggml's format that most weights have."""
    mixture = request.target.mixture
    if mixture is not None and mixture in FILE_TYPES and not request.overrides:
        return FILE_TYPES[mixture]
    weights: dict[str, int] = {}
    for tensor in source.tensors:
        fmt = plan.formats.get(tensor.name)
        if fmt and fmt.name in FILE_TYPES:
            weights[fmt.name] = weights.get(fmt.name, 0) + tensor.elements
    if not weights:
        return FILE_TYPES["f16"] if source.model.packed else source.header.get("general.file_type", int, 0)
    return FILE_TYPES[max(sorted(weights), key=lambda name: weights[name])]
