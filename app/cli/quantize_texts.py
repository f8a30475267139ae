"""The texts that a quantization calibrates with, probes and judges on, as a person chose them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.cli.front import Front
from app.errors import WrongUse
from app.paths import expand

if TYPE_CHECKING:
    from app.models import ResolvedModel
    from app.settings import Settings
    from quant.calibration.text import CalibrationText
    from quant.evaluation.result import EvaluationText
    from quant.request import Target

BUILTIN, NONE, CHATS = "builtin", "none", "chats"


def probing_texts(measure: bool | None, target: Target, found: ResolvedModel) -> tuple[EvaluationText, ...]:
    """None where formats are asked for by name, or the model is too large to be probed unasked."""
    from math import prod

    from quant.allocation.recipe import is_encoded
    from quant.probing import MOST_WEIGHTS, builtin_texts
    from runtime.gguf import open_model

    if target.mixture is not None or measure is False:
        return ()
    headers = open_model(found.paths).headers
    weights = sum(prod(tensor.shape) for each in headers for tensor in each.tensors if is_encoded(tensor))
    return builtin_texts() if measure or weights <= MOST_WEIGHTS else ()


def calibration_texts(
    front: Front, settings: Settings, choice: str, tokens: int
) -> tuple[CalibrationText, ...]:
    """The texts of ``--calib``, to draw ``tokens`` from. Raises InvalidText, WrongUse and ChatsError."""
    from quant.calibration.texts import builtin, read_texts

    if choice == NONE:
        return ()
    if choice == CHATS:
        return _own_chats(front, settings, tokens)
    return builtin("calibration") if choice == BUILTIN else read_texts(expand(choice))


def _own_chats(front: Front, settings: Settings, tokens: int) -> tuple[CalibrationText, ...]:
    """Raises WrongUse where there are none, or too few."""
    from app.chats.calibration import calibration_texts
    from app.cli.again import again
    from app.cli.text import plural
    from quant.calibration.passages import length

    with front.chats(settings) as chats:
        texts = calibration_texts(chats)
    if not texts:
        raise WrongUse(
            "no chat with an answer is kept on this machine, so there is nothing to calibrate on; "
            "the terminal app keeps chats, and chats of other programs can be imported",
            next_command="localq chats import --help",
        )
    characters = sum(map(length, texts))
    if characters < tokens:  # a token has a character or more but in rare scripts
        raise WrongUse(
            f"{plural(len(texts), 'kept chat')} with {characters:,} characters are too few to draw "
            f"{tokens:,} tokens from; ask for fewer with --calib-tokens, which measures less well, or take "
            "the built-in texts",
            next_command=again(front, without=("--calib",)),
        )
    return texts


def evaluation_texts(choice: str) -> tuple[EvaluationText, ...]:
    """The texts of ``--eval``, a file's under its name without the path. Raises InvalidText."""
    from app.cli.eval import read_texts

    if choice == NONE:
        return ()
    files = () if choice == BUILTIN else (expand(choice),)
    return read_texts(files, named=lambda path: path.name)
