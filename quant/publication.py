"""Giving results their names: the file, its certificate beside it, an importance matrix if one is wanted."""

from __future__ import annotations

import filecmp
from pathlib import Path
from typing import Final

from quant.calibration.imatrix import write_imatrix
from quant.certificate.document import Certificate, to_json
from quant.errors import OutputExists
from quant.files.source import Source
from quant.files.writer import PartFile, move_to_nothing
from quant.request import QuantizeRequest
from quant.steps import Calibrated

CERTIFICATE_SUFFIX: Final = ".certificate.json"


def publish_beside(out: Path, part: PartFile, certificate: Certificate, *, replace: bool = False) -> None:
    """Moves the file to ``out`` and its certificate beside it, on the same disk.

    The certificate goes first: a file without one would look older than it is. Raises
    :class:`OutputExists` where something has that name by now, unless ``replace``.
    """
    if out.exists() and not replace:
        raise OutputExists(out)
    temporary = part.path.with_name("certificate.json")
    temporary.write_bytes(to_json(certificate))
    temporary.replace(certificate_path(out))
    part.publish(out, replace=replace)


def rewrite_certificate(path: Path, certificate: Certificate) -> None:
    """Puts ``certificate`` in the place of the one beside the file at ``path``."""
    temporary = path.with_name(f".{path.name}{CERTIFICATE_SUFFIX}.new")
    temporary.write_bytes(to_json(certificate))
    temporary.replace(certificate_path(path))


def save_imatrix(path: Path, source: Source, request: QuantizeRequest, calibrated: Calibrated) -> None:
    """Writes what calibration measured to ``path``, for llama.cpp's tools.

    Raises :class:`OutputExists` where there is something else; the same contents are left.
    """
    measured = {tensor.name: calibrated.statistics(tensor.name) for tensor in source.tensors}
    new = path.with_name(path.name + ".new")
    try:
        write_imatrix(
            new,
            {name: found for name, found in measured.items() if found is not None},
            datasets=list(dict.fromkeys(text.domain for text in request.calibration)),
            chunk_size=request.context_tokens,
        )
        if not path.exists() or not filecmp.cmp(path, new, shallow=False):
            move_to_nothing(new, path)
    finally:
        new.unlink(missing_ok=True)


def certificate_path(path: Path) -> Path:
    """Where the certificate of the file at ``path`` lies as JSON."""
    return path.with_name(path.name + CERTIFICATE_SUFFIX)
