"""Every error that the runtime raises on purpose.

LocalqError                     root of all errors of localq, also of app's and quant's
├── GgufError                   a file is not a GGUF that may reach native code
├── DoesNotFit                  a plan needs more memory than the machine gives
├── KernelError                 the kernel library is missing, or cannot do what was forced
└── EngineError
    ├── ModelLoadFailed         llama.cpp could not load a validated file
    ├── WorkerDied              the worker process ended under a live request
    ├── JobCancelled            a one-shot process was ended because its caller wanted it
    ├── TooFewTokens            the texts of a job are too short
    ├── VocabulariesDiffer      two models that were to be compared cut texts into other tokens
    ├── PromptTooLong           prompt and answer do not fit into the context
    ├── InvalidRequest          a field of a request is out of its range
    └── TemplateError           a chat template failed
        └── TemplateTimeout     ... or used more time or memory than it may

A message says what, the value, and what to do. Facts that a caller may need are attributes.
"""

from __future__ import annotations

from pathlib import Path


class LocalqError(Exception):
    """Root of all errors of localq: shown to a person as its message, never as a traceback."""


class GgufError(LocalqError):
    """A file is refused before native code opens it.

    ``rule`` is a short stable name of the broken rule (``"truncated"``, ``"duplicate-key"``, ...).
    """

    def __init__(self, path: Path | str, rule: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.rule = rule
        self.reason = reason


class DoesNotFit(LocalqError):
    """A plan needs ``needed_bytes``; the machine has ``available_bytes`` for it."""

    def __init__(self, message: str, *, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class KernelError(LocalqError):
    """The kernel library cannot be loaded, or cannot run the forced instruction set."""


class EngineError(LocalqError):
    """The engine could not do what was asked of it."""


class ModelLoadFailed(EngineError):
    """llama.cpp refused a model; ``log`` holds its last lines."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class WorkerDied(EngineError):
    """The worker process ended; ``returncode`` as in :class:`subprocess.Popen`, ``log`` its last lines."""

    def __init__(self, message: str, *, returncode: int | None = None, log: str = "") -> None:
        super().__init__(message)
        self.returncode = returncode
        self.log = log


class JobCancelled(EngineError):
    """The caller stopped a job; its process is gone and it gave no result."""


class TooFewTokens(EngineError):
    """The texts of a job have ``tokens`` tokens; it needs ``needed_tokens``."""

    def __init__(self, message: str, *, tokens: int, needed_tokens: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.needed_tokens = needed_tokens


class VocabulariesDiffer(EngineError):
    """Two models have ``size`` and ``original_size`` tokens, or as many that are not the same."""

    def __init__(self, message: str, *, size: int, original_size: int) -> None:
        super().__init__(message)
        self.size = size
        self.original_size = original_size


class PromptTooLong(EngineError):
    """``prompt_tokens`` (plus the answer's) exceed the ``context_tokens`` of one conversation.

    ``at_least``: the text is so long that its tokens were not counted to the end.
    """

    def __init__(
        self, message: str, *, prompt_tokens: int, context_tokens: int, at_least: bool = False
    ) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens
        self.at_least = at_least


class InvalidRequest(EngineError):
    """``field`` of a request has a value outside its range."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class TemplateError(EngineError):
    """A chat template is not valid Jinja, refused the messages, or tried to leave its sandbox."""


class TemplateTimeout(TemplateError):
    """A chat template used more time or memory than it may."""
