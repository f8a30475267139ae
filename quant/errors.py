"""Every error that quant raises on purpose.

LocalqError
└── QuantError
    ├── SourceDamaged      a tensor of the source is truncated, or holds NaN or infinity
    ├── CannotEncode       a tensor's shape or type does not fit what was asked
    ├── TextTooShort       a calibration or evaluation text has too few tokens
    └── JobFailed          a process that ran the model for calibration or evaluation failed
"""

from __future__ import annotations

from runtime.errors import LocalqError


class QuantError(LocalqError):
    """Quantizing, calibrating or judging a model failed."""


class SourceDamaged(QuantError):
    """The data of ``tensor`` in the source cannot be used; nothing was published."""

    def __init__(self, message: str, *, tensor: str) -> None:
        super().__init__(message)
        self.tensor = tensor


class CannotEncode(QuantError):
    """A tensor cannot be stored in the format that was asked for."""


class TextTooShort(QuantError):
    """``tokens`` of the text are fewer than the ``needed_tokens``."""

    def __init__(self, message: str, *, tokens: int, needed_tokens: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.needed_tokens = needed_tokens


class JobFailed(QuantError):
    """The process that ran the model ended with an error; ``log`` holds its last lines."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log
