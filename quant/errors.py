"""Every error that quant raises on purpose.

LocalqError
└── QuantError
    ├── SourceDamaged      a tensor of the source is truncated, or holds NaN or infinity
    ├── CannotEncode       a tensor's shape or type does not fit what was asked
    ├── InvalidScheme      a quantization scheme has no codes, or does not fit an array's shape
    ├── NotFinite          an array holds NaN or infinity
    ├── NothingObserved    parameters were asked of an observer that saw no values
    ├── InvalidText        a file of texts cannot be used: not there, too large, no UTF-8, ...
    ├── TextTooShort       a calibration or evaluation text has too few tokens
    ├── TextsOverlap       calibration would see what the evaluation is to judge on
    ├── OutputExists       a file has the name of the one to make
    ├── NoRoom             the disk has less free space than the file needs (a DoesNotFit too)
    ├── WorkInUse          another process is making the same file
    ├── CannotTrain        a model or a format that quantization-aware training does not know
    │   └── TorchMissing   the extra that training needs is not installed
    ├── JobFailed          a process that ran the model for calibration or evaluation failed
    ├── CheckpointDamaged  a file of a safetensors repository breaks a rule, or does not fit the others
    └── CannotConvert      a repository is sound, but a GGUF cannot be made of it
        └── UnknownArchitecture
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from runtime.errors import DoesNotFit, LocalqError
from runtime.units import format_bytes

Step: TypeAlias = Literal["calibration", "evaluation"]


class QuantError(LocalqError):
    """Quantizing, calibrating or judging a model failed."""


class SourceDamaged(QuantError):
    """The data of ``tensor`` in the source cannot be used; nothing was published."""

    def __init__(self, message: str, *, tensor: str) -> None:
        super().__init__(message)
        self.tensor = tensor


class CannotEncode(QuantError):
    """A tensor cannot be stored in the format that was asked for."""


class CannotTrain(QuantError):
    """A model, a format or a machine that quantization-aware training does not work with."""


class TorchMissing(CannotTrain):
    """torch is not installed."""


class InvalidScheme(QuantError):
    """A quantization scheme has no codes, or its granularity does not fit an array."""


class NotFinite(QuantError):
    """``count`` values of an array are NaN or infinite; ``position`` is the index of the first."""

    def __init__(self, message: str, *, count: int, position: tuple[int, ...]) -> None:
        super().__init__(message)
        self.count = count
        self.position = position


class NothingObserved(QuantError):
    """An observer was asked for parameters before it saw a value."""


class InvalidText(QuantError):
    """The file of texts at ``path`` cannot be used."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class TextTooShort(QuantError):
    """``tokens`` of the text are fewer than the ``needed_tokens`` of ``step``."""

    def __init__(self, message: str, *, step: Step, tokens: int, needed_tokens: int) -> None:
        super().__init__(message)
        self.step = step
        self.tokens = tokens
        self.needed_tokens = needed_tokens


class TextsOverlap(QuantError):
    """An evaluation text shares runs of words with the calibration."""


class OutputExists(QuantError):
    """There is a file at ``path`` already; it stays as it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists already; choose another name, or remove it")
        self.path = path


class NoRoom(QuantError, DoesNotFit):
    """The disk of ``folder`` has ``available_bytes`` free; ``needed_bytes`` are needed."""

    def __init__(self, folder: Path, *, needed_bytes: int, available_bytes: int) -> None:
        DoesNotFit.__init__(
            self,
            f"not enough space on the disk of {folder}: {format_bytes(needed_bytes)} needed, "
            f"{format_bytes(available_bytes)} free; remove something there, or write to another disk",
            needed_bytes=needed_bytes,
            available_bytes=available_bytes,
        )
        self.folder = folder


class WorkInUse(QuantError):
    """Another process works in ``folder``: it ``does`` what may be done once at a time."""

    def __init__(self, folder: Path, does: str = "is quantizing the same model in the same way") -> None:
        super().__init__(f"another localq process {does} (in {folder}); wait until it is done")
        self.folder = folder


class CheckpointDamaged(QuantError):
    """The file at ``path`` breaks ``rule`` (a short name), for ``reason``; nothing was published."""

    def __init__(self, path: Path, rule: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}; nothing was published")
        self.path = path
        self.rule = rule
        self.reason = reason


class CannotConvert(QuantError):
    """No GGUF can be made of the repository in ``folder``; the message says what would help."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"{folder}: {reason}")
        self.folder = folder
        self.reason = reason


class UnknownArchitecture(CannotConvert):
    """Models of the class ``architecture`` are not converted; those of the classes ``supported`` are."""

    def __init__(self, folder: Path, architecture: str, supported: tuple[str, ...]) -> None:
        super().__init__(
            folder,
            f"models of the class {architecture} are not converted; supported are {', '.join(supported)}. "
            "Look for a GGUF of this model, or make one with llama.cpp's convert_hf_to_gguf.py",
        )
        self.architecture = architecture
        self.supported = supported


class JobFailed(QuantError):
    """The process that ran the model for ``step`` ended with an error; ``log`` holds its last lines."""

    def __init__(self, message: str, *, step: Step, log: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.log = log
