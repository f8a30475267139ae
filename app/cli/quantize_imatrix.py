"""Importance matrices on the command line: one to quantize with, to write, or to make a model again with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import WrongUse
from app.paths import expand, require_folder

if TYPE_CHECKING:
    from app.cli.front import Front
    from quant.calibration.imatrix import ImatrixFile
    from quant.certificate.document import Certificate

HELP = "localq quantize --help"


def imatrix_to_take(path: str | None, calibration: str | None) -> ImatrixFile | None:
    """The file of ``--imatrix``. Raises WrongUse beside texts to calibrate with, and GgufError."""
    from app.cli.quantize_texts import NONE
    from quant.calibration.imatrix import look_into

    if path is None:
        return None
    if calibration not in (None, NONE):
        raise WrongUse("--imatrix stands in the place of --calib; give one of them", next_command=HELP)
    return look_into(expand(path))


def imatrix_to_write(path: str | None, calibration: str) -> Path | None:
    """The path of ``--save-imatrix``. Raises WrongUse where nothing is measured, and OutputExists."""
    from app.cli.quantize_texts import NONE
    from quant.errors import OutputExists
    from runtime.errors import GgufError
    from runtime.gguf import open_gguf

    if path is None:
        return None
    if calibration == NONE:
        raise WrongUse(
            "--save-imatrix writes what calibration measures; without texts nothing is measured",
            next_command=HELP,
        )
    new = expand(path).absolute()
    require_folder(new)
    try:
        other = new.exists() and open_gguf(new).role != "imatrix"
    except GgufError:
        other = True
    if other:
        raise OutputExists(new)
    return new


def imatrix_again(front: Front, certificate: Certificate, given: str | None) -> ImatrixFile | None:
    """The importance matrix that a certificate names. Raises WrongUse where it is not the one given."""
    from app.cli.again import again
    from quant.calibration.imatrix import look_into

    wanted = certificate.imatrix
    if wanted is None:
        return None
    found = look_into(expand(given)) if given is not None else None
    if found is None or found.sha256 != wanted.sha256:
        what = f"{given} is another one" if given else "give that file"
        raise WrongUse(
            f"it was made with the importance matrix {wanted.name}, sha256 {wanted.sha256}; {what}",
            next_command=again(front, "--imatrix", "FILE"),
        )
    return found
