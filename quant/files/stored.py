"""Where the tensors of a finished file lie, and the digests of their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from quant.files.layout import Piece
from quant.formats.lt_input import input_bytes
from runtime.gguf import GgufHeader

_READ_BYTES: Final = 4 << 20


def pieces_of(header: GgufHeader) -> dict[str, tuple[Piece, ...]]:
    """By the tensor's name, in the certificate's order: its bytes, and what lies beside a packed matrix."""
    found: dict[str, tuple[Piece, ...]] = {
        tensor.name: (Piece(header.data_offset + tensor.offset, tensor.nbytes),) for tensor in header.tensors
    }
    if (section := header.packed) is not None:
        for packed in section.tensors:
            places = (
                (packed.offset, packed.nbytes),
                (packed.input.offset, input_bytes(packed.input.columns)),
                (packed.table.offset, packed.table.nbytes),
            )
            found[packed.name] = tuple(Piece(section.offset + offset, nbytes) for offset, nbytes in places)
    return found


def read_pieces(file: BinaryIO, pieces: tuple[Piece, ...]) -> Iterator[tuple[int, int, bytes]]:
    """Index of the piece, offset in it, and some bytes, one after the other."""
    for index, (position, nbytes) in enumerate(pieces):
        for start in range(0, nbytes, _READ_BYTES):
            file.seek(position + start)
            yield index, start, file.read(min(_READ_BYTES, nbytes - start))


def digests_of(
    header: GgufHeader, on_tensor: Callable[[int, int], None] = lambda _done, _total: None
) -> dict[str, str]:
    """SHA-256 of each tensor's bytes, as a journal has it, by name in the certificate's order."""
    found = {}
    with header.path.open("rb") as file:
        pieces = pieces_of(header)
        for number, (name, places) in enumerate(pieces.items(), 1):
            state = hashlib.sha256()
            for _, _, data in read_pieces(file, places):
                state.update(data)
            found[name] = state.hexdigest()
            on_tensor(number, len(pieces))
    return found
