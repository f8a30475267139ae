"""Every error that localq's front raises on purpose.

runtime.errors.LocalqError
└── AppError                    carries the command to run next, when it knows one
    ├── WrongUse                an argument, an input or a setting cannot be used as it is (exit code 2)
    │   └── SettingsError       a setting in the environment or in the settings file
    └── ModelNotFound           a model argument is neither a stored name nor a file

A message says what, the value, and what to do. Facts that a caller may need are attributes.
"""

from __future__ import annotations

from runtime.errors import LocalqError


class AppError(LocalqError):
    """``next_command`` is a command line that helps, or None when the table of ``app.cli.errors`` decides."""

    def __init__(self, message: str, *, next_command: str | None = None) -> None:
        super().__init__(message)
        self.next_command = next_command


class WrongUse(AppError):
    """What was asked cannot be done as it was asked: the caller has to change the request."""


class SettingsError(WrongUse):
    """``key`` has no place, or no valid value, in ``source`` (a file, or an environment variable)."""

    def __init__(self, message: str, *, key: str, source: str, next_command: str | None = None) -> None:
        super().__init__(message, next_command=next_command)
        self.key = key
        self.source = source


class ModelNotFound(AppError):
    """No stored model and no file is called ``reference``; ``near`` are stored names that look like it."""

    def __init__(self, reference: str, near: tuple[str, ...] = ()) -> None:
        hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
        super().__init__(
            f"no stored model and no file is called {reference!r}{hint}", next_command="localq list"
        )
        self.reference = reference
        self.near = near
