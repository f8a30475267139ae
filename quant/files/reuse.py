"""Tensors of an earlier file that the one under way would have byte for byte: they are copied."""

from __future__ import annotations

from pathlib import Path

from quant.certificate.document import Certificate, Options, data_digest
from quant.certificate.keys import read_certificate
from quant.errors import QuantError
from quant.files.stored import digests_of, pieces_of, read_pieces
from quant.files.work import FinishedTensor, Work
from quant.files.writer import PartFile
from runtime.gguf import open_gguf


def reuse(earlier: Path, certificate: Certificate, statistics: str | None, part: PartFile, work: Work) -> int:
    """Copies what ``earlier`` holds of the file with ``certificate`` into ``part``; the number of tensors.

    Only where both are made of the same source in the same way; ``statistics`` is the digest of what
    calibration measured now. Raises GgufError for a file that is none, QuantError for one whose data is not
    what its certificate says.
    """
    header = open_gguf(earlier)
    known = read_certificate(header)
    if known is None or known.training is not None or not _made_alike(known, certificate, statistics):
        return 0
    digests = digests_of(header)
    if data_digest(digests.values()) != known.data_sha256:
        raise QuantError(f"{earlier} holds other data than its certificate says; it is damaged")
    before = {facts.name: facts for facts in known.tensors}
    wanted = {facts.name: facts.type for facts in certificate.tensors}
    placed = {tensor.entry.name: tensor for tensor in part.layout.tensors}
    done = work.names()
    taken = 0
    with earlier.open("rb") as file:
        for name, pieces in pieces_of(header).items():
            facts, place = before[name], placed.get(name)
            if place is None or facts.type != wanted[name] or name in done:
                continue
            for index, start, data in read_pieces(file, pieces):
                part.write(place.pieces[index].position + start, data)
            work.append(
                FinishedTensor(
                    name=name,
                    position=place.position,
                    beside=tuple(piece.position for piece in place.beside),
                    sha256=digests[name],
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
