"""Tensors of an earlier file that the one under way would have byte for byte: they are copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from quant.certificate.document import Certificate, Options, data_digest
from quant.certificate.keys import read_certificate
from quant.errors import QuantError
from quant.files.work import FinishedTensor, Work
from quant.files.writer import PartFile
from runtime.gguf import GgufHeader, TensorInfo, open_gguf

_READ_BYTES: Final = 4 << 20


def reuse(earlier: Path, certificate: Certificate, statistics: str | None, part: PartFile, work: Work) -> int:
    """Copies what ``earlier`` holds of the file with ``certificate`` into ``part``; the number of tensors.

    Only where both are made of the same source in the same way; ``statistics`` is the digest of what
    calibration measured now. Raises GgufError for a file that is none, QuantError for one whose data is not
    what its certificate says.
    """
    header = open_gguf(earlier)
    known = read_certificate(header)
    if known is None or not _made_alike(known, certificate, statistics):
        return 0
    with earlier.open("rb") as file:
        digests = {tensor.name: _digest(file, header, tensor) for tensor in header.tensors}
        if data_digest(digests.values()) != known.data_sha256:
            raise QuantError(f"{earlier} holds other data than its certificate says; it is damaged")
        before = {facts.name: facts for facts in known.tensors}
        wanted = {facts.name: facts.type for facts in certificate.tensors}
        placed = {tensor.entry.name: tensor for tensor in part.layout.tensors}
        done = work.names()
        taken = 0
        for tensor in header.tensors:
            facts, place = before[tensor.name], placed.get(tensor.name)
            if place is None or facts.type != wanted[tensor.name] or tensor.name in done:
                continue
            position = place.position
            for data in _data(file, header, tensor):
                part.write(position, data)
                position += len(data)
            work.append(
                FinishedTensor(
                    name=tensor.name,
                    position=place.position,
                    sha256=digests[tensor.name],
                    encoder=facts.encoder,
                    error=facts.error,
                )
            )
            taken += 1
    return taken


def _made_alike(known: Certificate, certificate: Certificate, statistics: str | None) -> bool:
    mine, theirs = Options.parse(known.options), Options.parse(certificate.options)
    return (
        (known.tool, known.source.sha256, known.seed)
        == (certificate.tool, certificate.source.sha256, certificate.seed)
        and known.statistics_sha256 == (statistics if certificate.calibration else None)
        and known.imatrix == certificate.imatrix
        and (mine.feedback, mine.moment_bytes) == (theirs.feedback, theirs.moment_bytes)
    )


def _digest(file: BinaryIO, header: GgufHeader, tensor: TensorInfo) -> str:
    state = hashlib.sha256()
    for data in _data(file, header, tensor):
        state.update(data)
    return state.hexdigest()


def _data(file: BinaryIO, header: GgufHeader, tensor: TensorInfo) -> Iterator[bytes]:
    file.seek(header.data_offset + tensor.offset)
    for start in range(0, tensor.nbytes, _READ_BYTES):
        yield file.read(min(_READ_BYTES, tensor.nbytes - start))
