"""Reading the tensor table, and holding it against the file's length.

The data section's rules are those of llama.cpp's reader: each tensor starts where the one before it, padded
to the alignment, ends. On top of them the section ends where the file does: no tensor reaches past the end.
"""

from __future__ import annotations

from struct import Struct

from runtime.gguf import limits
from runtime.gguf.ggml_types import GGML_TYPES, REMOVED_TYPES, GgmlType
from runtime.gguf.source import Source
from runtime.gguf.tensor_info import TensorInfo

_INT64_MAX = (1 << 63) - 1
_MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8
_DIMENSIONS = [Struct(f"<{count}Q") for count in range(5)]
_U32 = Struct("<I")
_TYPE_AND_OFFSET = Struct("<IQ")


def pad(nbytes: int, alignment: int) -> int:
    """``nbytes`` rounded up to a multiple of ``alignment``, a power of two."""
    return (nbytes + alignment - 1) & -alignment


def read_tensors(source: Source, count: int) -> tuple[TensorInfo, ...]:
    """The next ``count`` entries of the table. Raises :class:`GgufError` at the first that breaks a rule."""
    if count > limits.TENSORS:
        raise source.refuse(
            "too-many-tensors", f"claims {count} tensors; at most {limits.TENSORS} are accepted"
        )
    source.require(count * _MIN_TENSOR_BYTES, f"a table of {count} tensors")
    names: set[str] = set()
    tensors = []
    for index in range(count):
        tensor = _read_tensor(source, index)
        if tensor.name in names:
            raise source.refuse("duplicate-tensor", f"has the tensor {tensor.name} twice")
        names.add(tensor.name)
        tensors.append(tensor)
    return tuple(tensors)


def _read_tensor(source: Source, index: int) -> TensorInfo:
    name = _read_name(source, index)
    (dimensions,) = source.unpack(_U32, f"the number of dimensions of {name}")
    if dimensions > 4:
        raise source.refuse("bad-shape", f"the tensor {name} has {dimensions} dimensions; ggml has up to 4")
    # Converters write scalars without a dimension; ggml reads them as one element.
    shape: tuple[int, ...] = source.unpack(_DIMENSIONS[dimensions], f"the shape of {name}") or (1,)
    number, offset = source.unpack(_TYPE_AND_OFFSET, f"the type and offset of {name}")
    kind = _find_type(source, name, number)
    elements = 1
    for dimension in shape:
        elements *= dimension
    if not 0 < elements <= _INT64_MAX or max(shape) > _INT64_MAX:
        raise source.refuse("bad-shape", f"the tensor {name} has the impossible shape {list(shape)}")
    if shape[0] % kind.block_size:
        raise source.refuse(
            "bad-shape",
            f"the tensor {name} has rows of {shape[0]} elements; "
            f"{kind.name} stores blocks of {kind.block_size}",
        )
    return TensorInfo(name, kind, shape, offset, kind.row_bytes(elements))


def _read_name(source: Source, index: int) -> str:
    length = source.u64(f"the length of the name of tensor {index}")
    if not 1 <= length <= limits.TENSOR_NAME_BYTES:
        raise source.refuse(
            "bad-tensor-name",
            f"the name of tensor {index} has {length} bytes; ggml keeps 1 to {limits.TENSOR_NAME_BYTES}",
        )
    name = source.take(length, f"the name of tensor {index}")
    if not (name.isascii() and name.decode("ascii").isprintable()):
        raise source.refuse(
            "bad-tensor-name", f"the name of tensor {index} is {name!r}; printable ASCII is accepted"
        )
    return name.decode("ascii")


def _find_type(source: Source, name: str, number: int) -> GgmlType:
    kind = GGML_TYPES.get(number)
    if kind is not None:
        return kind
    if number in REMOVED_TYPES:
        raise source.refuse(
            "removed-type",
            f"the tensor {name} has the type {REMOVED_TYPES[number]}, which llama.cpp no longer reads; "
            "get the model in Q4_0 or IQ4_NL instead",
        )
    raise source.refuse("bad-tensor-type", f"the tensor {name} has the unknown type {number}")


def find_data_section(
    source: Source, tensors: tuple[TensorInfo, ...], alignment: int, *, more: bool = False
) -> tuple[int, int]:
    """Where the data section starts and ends, after holding every tensor's place against the file's length.

    Raises :class:`GgufError` for a gap, an overlap, an end past the file's, or bytes after the last tensor,
    which ``more`` alone explains: a packed section (``packed``), held against the file there.
    """
    if not tensors:
        end = source.position if more else _end_without_tensors(source, alignment)
        return end, end
    data_offset = pad(source.position, alignment)
    end = 0
    for tensor in tensors:
        if tensor.offset != end:
            raise source.refuse(
                "bad-offset",
                f"the tensor {tensor.name} starts at byte {tensor.offset} of the data section; "
                f"the tensors before it end at {end}",
            )
        end += pad(tensor.nbytes, alignment)
    last = tensors[-1]
    unpadded = data_offset + last.offset + last.nbytes
    padded = data_offset + end
    if source.size < unpadded:
        cut = next(tensor for tensor in tensors if data_offset + tensor.offset + tensor.nbytes > source.size)
        raise source.refuse(
            "truncated",
            f"has {source.size} bytes; its tensors need {unpadded}, and {cut.name} is cut off",
        )
    if source.size not in (unpadded, padded) and not more:
        raise source.refuse(
            "trailing-bytes",
            f"has {source.size} bytes; its tensors end at {padded}, and nothing may follow them",
        )
    return data_offset, padded


def _end_without_tensors(source: Source, alignment: int) -> int:
    """A file of metadata alone ends with it, or is padded with zeros."""
    position = source.position
    if source.size not in (position, pad(position, alignment)):
        raise source.refuse(
            "trailing-bytes", f"has {source.remaining} bytes after its metadata, and no tensors"
        )
    return position
