"""Every error that localq's front raises on purpose.

runtime.errors.LocalqError
└── AppError                    carries the command to run next, when it knows one
    ├── WrongUse                an argument, an input or a setting cannot be used as it is (exit code 2)
    │   ├── SettingsError       a setting in the environment or in the settings file
    │   ├── InvalidReference    a text names no model on the Hub, in the catalog or on this disk
    │   └── AddressUnusable     the endpoint cannot listen where it was told to
    ├── ServerUnreachable       a server that runs does not answer, or does not end
    ├── ModelNotFound           a model argument is neither a stored name nor a file
    ├── UnconvertedModel        a folder holds safetensors where a GGUF is wanted
    ├── StoreError              the model store could not do what was asked; what it holds is as it was
    │   ├── InvalidName         a text cannot be the name of a model
    │   ├── NoSuchModel         the store has no model of that name
    │   ├── NameTaken           the name belongs to another model
    │   ├── UnsuitableFile      a path cannot be imported: not a regular file, no GGUF in it, ...
    │   ├── NotEnoughDisk       the store's disk has less free space than needed (exit code 3)
    │   ├── StoreBusy           another process holds the store's lock for too long
    │   ├── StoreDamaged        a manifest or blob is missing, changed or unreadable
    │   └── DiskFailed          the operating system refused an operation on the store's disk
    ├── ChatsError              the chat history could not do what was asked; what it holds is as it was
    │   ├── NoSuchChat          there is no chat, or no message, of that number
    │   ├── ChatsBusy           another process is changing the chats for too long
    │   ├── ChatsDamaged        the file of the chats is not what it was, or a newer localq's
    │   └── UnreadableExport    a file has no chats in it that can be taken in
    ├── FetchFailed             a package could not be downloaded
    │   ├── PipMissing          this Python has no pip to download with
    │   └── WrongContent        what came is not the pinned file
    ├── FixFailed               a command of `doctor --fix` ended badly
    └── HubError                the Hub could not give what was asked; parts of files that came are kept
        ├── HubOffline          HF_HUB_OFFLINE is set
        ├── HubUnreachable      no connection, no valid certificate, or one that stalls again and again
        ├── HubBusy             the Hub answers 429 or 5xx and goes on to
        ├── NotOnHub            there is no such repository, revision or file, or it is hidden from strangers
        ├── NotAllowed          the repository is gated or private, or the token is not valid
        ├── HubMisbehaved       an answer that no Hub should give; it is not used
        │   └── WrongHash       a file came whole, but with other bytes than the Hub announced
        ├── NoSuchChoice        the repository has no model file, or not the one that was asked for
        └── NeedsConversion     the repository has its weights in safetensors only

runtime.errors.DoesNotFit
└── ModelDoesNotFit             the same, with the command that comes nearest to what was asked

A message says what, the value, and what to do. Facts that a caller may need are attributes.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from runtime.errors import DoesNotFit, LocalqError
from runtime.units import format_bytes


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


class InvalidReference(WrongUse):
    """``text`` cannot mean a model, for ``reason``."""

    def __init__(self, text: str, reason: str, *, next_command: str | None = None) -> None:
        super().__init__(f"{_shortened(text)} is not a model to pull: {reason}", next_command=next_command)
        self.text = text
        self.reason = reason


class AddressUnusable(WrongUse):
    """Nothing can listen on ``host`` and ``port``; ``errno`` is the system's reason."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            next_command=f"localq serve --port {port + 1 if port < 65535 else 0}",
        )
        self.host = host
        self.port = port
        self.errno = error.errno


class ServerUnreachable(AppError):
    """The server at ``url`` does not do what was asked, for ``reason``."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"the server at {url} does not answer as it should: {reason}")
        self.url = url
        self.reason = reason


class ModelNotFound(AppError):
    """No stored model and no file is called ``reference``; ``near`` are stored names that look like it."""

    def __init__(
        self, reference: str, near: tuple[str, ...] = (), *, next_command: str | None = None
    ) -> None:
        hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
        super().__init__(
            f"no stored model and no file is called {reference!r}{hint}", next_command=next_command
        )
        self.reference = reference
        self.near = near


class ModelDoesNotFit(DoesNotFit):
    """``cause``, and a ``next_command`` that would fit; ``instead`` says what that is."""

    def __init__(self, cause: DoesNotFit, next_command: str, instead: str = "") -> None:
        text = f"{cause}; {instead}" if instead else str(cause)
        super().__init__(text, needed_bytes=cause.needed_bytes, available_bytes=cause.available_bytes)
        self.next_command = next_command


class UnconvertedModel(AppError):
    """The folder ``path`` holds a model as safetensors, and a GGUF is wanted."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} holds a model as safetensors, which has to be converted first")
        self.path = path


class StoreError(AppError):
    """The store could not do what was asked. Nothing that it held is lost by this."""


class InvalidName(StoreError):
    """``name`` cannot be the name of a model, for ``reason``."""

    def __init__(self, name: str, reason: str, suggestion: str | None = None) -> None:
        hint = f"; try {suggestion!r}" if suggestion else ""
        super().__init__(f"{_shortened(name)} cannot be the name of a model: {reason}{hint}")
        self.name = name
        self.reason = reason
        self.suggestion = suggestion


class NoSuchModel(StoreError):
    """The store has no model called ``name``; ``nearest`` are stored names that look like it."""

    def __init__(self, name: str, nearest: tuple[str, ...] = ()) -> None:
        hint = f"; did you mean {' or '.join(repr(near) for near in nearest)}?" if nearest else ""
        super().__init__(f"the store has no model called {_shortened(name)}{hint}")
        self.name = name
        self.nearest = nearest


class NameTaken(StoreError):
    """``name`` already belongs to another model (``holder`` differs from it when only the case does)."""

    def __init__(self, name: str, holder: str | None = None) -> None:
        self.holder = holder or name
        taken = f"the name {name!r} is taken by " + (f"{holder!r}" if holder else "another model")
        super().__init__(
            f"{taken}; choose another name, or remove that one",
            next_command=f"localq rm {shlex.quote(self.holder)}",
        )
        self.name = name


class UnsuitableFile(StoreError):
    """``path`` cannot be imported, for ``reason``."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class NotEnoughDisk(StoreError):
    """The disk that holds ``path`` has ``free_bytes`` free, ``needed_bytes`` are needed."""

    def __init__(self, path: Path | str, *, needed_bytes: int, free_bytes: int) -> None:
        limit = " (a quota, or no room for more files)" if free_bytes >= needed_bytes else ""
        super().__init__(
            f"not enough space on the disk of {path}: {format_bytes(needed_bytes)} needed, "
            f"{format_bytes(free_bytes)} free{limit}; remove something there, "
            "or set LOCALQ_HOME to a folder on another disk",
            next_command="localq df",
        )
        self.path = Path(path)
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class StoreBusy(StoreError):
    """The lock of the store in ``home`` was not free within ``waited_seconds``."""

    def __init__(self, home: Path, waited_seconds: float) -> None:
        super().__init__(
            f"another localq process is changing the store in {home}; waited {waited_seconds:g} s for it, "
            "try again when it is done"
        )
        self.home = home
        self.waited_seconds = waited_seconds


class StoreDamaged(StoreError):
    """``path``, which belongs to the store or is linked from it, is not what it was when it was stored."""

    def __init__(self, path: Path | str, reason: str, *, next_command: str = "localq verify") -> None:
        super().__init__(f"{path}: {reason}", next_command=next_command)
        self.path = Path(path)
        self.reason = reason


class DiskFailed(StoreError):
    """The operating system refused to ``action`` (a verb) ``path``; ``errno`` is its reason."""

    def __init__(self, action: str, path: Path | str, error: OSError) -> None:
        super().__init__(f"cannot {action} {path}: {error.strerror or error}")
        self.action = action
        self.path = Path(path)
        self.errno = error.errno


class ChatsError(AppError):
    """The chat history could not do what was asked. Nothing that it held is lost by this."""


class NoSuchChat(ChatsError):
    """There is no chat, or no message, of the number that the message names."""


class ChatsBusy(ChatsError):
    """The file at ``path`` was not free within ``waited_seconds``."""

    def __init__(self, path: Path, waited_seconds: float) -> None:
        super().__init__(
            f"another localq process is changing the chats in {path}; waited {waited_seconds:g} s for it, "
            "try again when it is done"
        )
        self.path = path
        self.waited_seconds = waited_seconds


class ChatsDamaged(ChatsError):
    """The file at ``path`` cannot be read as chats, for ``reason``."""

    def __init__(self, path: Path | None, reason: str, *, next_command: str | None = None) -> None:
        if path is not None and next_command is None:
            next_command = shlex.join(["mv", str(path.parent), f"{path.parent}.damaged"])
        super().__init__(f"{path}: {reason}", next_command=next_command)
        self.path = path
        self.reason = reason


class UnreadableExport(ChatsError):
    """``path`` has no chats that can be taken in, for ``reason``."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class FixFailed(AppError):
    """``command``, which was to mend the installation, did not: ``how`` it ended."""

    def __init__(self, command: str, how: str) -> None:
        super().__init__(f"{command} did not mend it: {how}; its output above says why", next_command=command)
        self.command = command


class FetchFailed(AppError):
    """A package could not be downloaded; ``log`` holds the last lines of the tool that tried."""

    def __init__(self, message: str, *, log: str = "", next_command: str | None = None) -> None:
        super().__init__(message, next_command=next_command)
        self.log = log


class PipMissing(FetchFailed):
    """The Python at ``python`` has no pip."""

    def __init__(self, python: str) -> None:
        super().__init__(
            f"{python} has no pip, which fetches the demo model with your own index settings; install it",
            next_command=f"{shlex.quote(python)} -m ensurepip",
        )
        self.python = python


class WrongContent(FetchFailed):
    """``what`` came with ``found``, not with the pinned ``expected`` (sizes, names or hashes)."""

    def __init__(self, what: str, *, expected: str, found: str) -> None:
        super().__init__(
            f"{what} is not the file that localq knows: expected {expected}, found {found}; "
            "nothing was stored. The package index in use serves another file under this version"
        )
        self.expected = expected
        self.found = found


class HubError(AppError):
    """The Hub could not give what was asked. What of a file came is kept, unless the error says otherwise."""


class HubOffline(HubError):
    """HF_HUB_OFFLINE forbids connections."""

    def __init__(self) -> None:
        super().__init__(
            "HF_HUB_OFFLINE is set, so nothing is asked of the Hub; unset it, or use a stored model",
            next_command="localq list",
        )


class HubUnreachable(HubError):
    """``host`` could not be reached, or a connection to it gave no more bytes, for ``reason``."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"{host}: {reason}; check the network, and HF_ENDPOINT and the proxy if you set them"
        )
        self.host = host
        self.reason = reason


class HubBusy(HubError):
    """``host`` answered ``status``; ``retry_after_seconds`` is how long it asks to wait, if it does."""

    def __init__(self, host: str, status: int, retry_after_seconds: float | None = None) -> None:
        what = "limits how often it may be asked" if status == 429 else "has a problem of its own"
        wait = "" if retry_after_seconds is None else f", and asks to wait {retry_after_seconds:g} s"
        super().__init__(f"{host} {what} (HTTP {status}){wait}; the same command later goes on from here")
        self.host = host
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class NotOnHub(HubError):
    """There is no ``what`` for someone without the right to see it."""

    def __init__(self, what: str, reason: str = "", *, next_command: str | None = None) -> None:
        super().__init__(f"the Hub has no {what}{reason}", next_command=next_command)
        self.what = what


class NotAllowed(HubError):
    """``repo`` answered ``status`` (401 or 403), for ``reason``."""

    def __init__(self, repo: str, status: int, reason: str, *, next_command: str) -> None:
        super().__init__(f"{repo}: {reason} (HTTP {status})", next_command=next_command)
        self.repo = repo
        self.status = status
        self.reason = reason


class HubMisbehaved(HubError):
    """``host`` gave an answer that is not used, for ``reason``."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}; nothing of it is used")
        self.host = host
        self.reason = reason


class WrongHash(HubMisbehaved):
    """``file`` came with ``found``, the Hub announced ``expected`` (hashes in hex). What came was deleted."""

    def __init__(self, host: str, file: str, *, expected: str, found: str) -> None:
        super().__init__(
            host,
            f"{file} came with the hash {found}, the Hub announced {expected}: bytes were changed on the way "
            "or on the disk, so what came was deleted",
        )
        self.file = file
        self.expected = expected
        self.found = found


class NoSuchChoice(HubError):
    """``repo`` has no model file that was meant; ``choices`` are what it has."""

    def __init__(
        self, repo: str, reason: str, choices: tuple[str, ...] = (), *, next_command: str | None = None
    ) -> None:
        listed = f"; it has {', '.join(choices)}" if choices else ""
        super().__init__(f"{repo}: {reason}{listed}", next_command=next_command)
        self.repo = repo
        self.choices = choices


class NeedsConversion(HubError):
    """``repo`` has its weights as safetensors, which are not made into a GGUF yet."""

    def __init__(self, repo: str, *, next_command: str) -> None:
        super().__init__(
            f"{repo} has its weights as safetensors, and localq cannot convert those yet; "
            "pull a repository that has them as GGUF",
            next_command=next_command,
        )
        self.repo = repo


def _shortened(text: str) -> str:
    """As a literal, since the text may hold anything, and not longer than a line."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
