"""What a person may set once for all commands: flag > environment > file > default.

The file is TOML, flat, one key a field of :class:`Settings`; it is ``config.toml`` in the user's
configuration folder, or the file that ``LOCALQ_CONFIG`` names. The environment's names are ``LOCALQ_`` and
the key in capitals. Importing this module touches no disk; only :func:`load_settings` reads the file.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from app.errors import SettingsError
from app.limits import KV_TYPES, MAX_CONTEXT_TOKENS, MAX_THREADS
from app.paths import expand
from runtime.engine.config import KvType

ColorChoice = Literal["auto", "always", "never"]
KeptChats = Literal["app", "all", "none"]

CONFIG_VARIABLE = "LOCALQ_CONFIG"

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


@dataclass(frozen=True)
class Settings:
    """Values that every command starts from."""

    home: Path | None = None
    """Folder of the store; None = the platform's data folder."""
    context: int | None = None
    """Tokens of one conversation; None = 4096, or fewer where the model or the memory holds fewer, or what
    the file was fitted to a memory with."""
    threads: int = 0
    """Threads of one decode step; 0 = one for each physical core."""
    kv: KvType | None = None
    """Type of the KV cache; None = f16, or what the file was fitted to a memory with."""
    ram: int | None = None
    """Bytes that a model may use at most; None = what the machine has available."""
    color: ColorChoice = "auto"
    """Colour on a terminal: auto also obeys NO_COLOR."""
    history: bool = True
    """Keep what is typed in the chat for the next time, in the store's folder."""
    chats: KeptChats = "app"
    """Keep conversations in the store's folder: those of the terminal app, all, or none."""


def parse_size(text: str) -> int:
    """Bytes of ``6G``, ``512MiB``, ``1.5g`` or a plain count. Units are powers of 1024.

    Raises ValueError, whose message names the text.
    """
    match = re.fullmatch(
        r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE | re.ASCII
    )
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 6G, 512M or a number of bytes")
    size = int(float(match[1]) * (1 << _UNITS[match[2].upper()]))
    if size < 1:
        raise ValueError(f"{text!r} is not a size above zero; write 6G, 512M or a number of bytes")
    return size


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge the four sources. A flag that is None was not given.

    ``file`` None means the default place, where a missing file is no error; a named file must exist.
    Raises SettingsError for an unknown key or a value that its key cannot take.
    """
    environ = os.environ if environ is None else environ
    merged = _from_file(environ, file)
    for key, parse in _PARSERS.items():
        variable = f"LOCALQ_{key.upper()}"
        if environ.get(variable):
            merged[key] = _parsed(key, parse, environ[variable], variable, f"unset {variable}")
    merged.update({key: value for key, value in (flags or {}).items() if value is not None})
    return replace(Settings(), **merged)


def default_config_file() -> Path:
    """Where the settings file is looked for when nothing names it. Touches no disk."""
    import platformdirs

    return Path(platformdirs.user_config_dir("localq", appauthor=False)) / "config.toml"


def _from_file(environ: Mapping[str, str], file: Path | None) -> dict[str, Any]:
    named = file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    path = named or default_config_file()
    edit = f"${{EDITOR:-vi}} {shlex.quote(str(path))}"
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        if named is None:
            return {}
        raise SettingsError(
            f"the settings file {path} does not exist", key="", source=str(path), next_command=edit
        ) from error
    except OSError as error:
        raise SettingsError(
            f"the settings file {path} cannot be read: {error.strerror}", key="", source=str(path)
        ) from error
    import tomllib

    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} is not TOML: {error}", key="", source=str(path), next_command=edit
        ) from error
    for key in table:
        if key not in _PARSERS:
            raise _unknown_key(key, path, edit)
    return {key: _parsed(key, _PARSERS[key], value, str(path), edit) for key, value in table.items()}


def _unknown_key(key: str, path: Path, edit: str) -> SettingsError:
    import difflib

    near = difflib.get_close_matches(key.lower(), _PARSERS, n=1, cutoff=0.0)[0]
    return SettingsError(
        f"{path}: there is no setting {key!r}; the nearest is {near!r} (all: {', '.join(_PARSERS)})",
        key=key,
        source=str(path),
        next_command=edit,
    )


def _parsed(key: str, parse: Callable[[Any], object], value: object, source: str, fix: str) -> object:
    try:
        return parse(value)
    except ValueError as error:
        raise SettingsError(
            f"{source}: setting {key!r}: {error}", key=key, source=source, next_command=fix
        ) from error


def _count(maximum: int, minimum: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        try:
            if isinstance(value, (bool, float)):
                raise ValueError
            count = int(value)
        except (TypeError, ValueError):
            raise ValueError(f"{value!r} is not a whole number from {minimum} to {maximum}") from None
        if not minimum <= count <= maximum:
            raise ValueError(f"{count} is not a whole number from {minimum} to {maximum}")
        return count

    return parse


def _choice(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}")
        return str(value)

    return parse


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{value!r} is not a size; write 6G, 512M or a number of bytes")
    return parse_size(str(value))


def _switch(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False}
    chosen = (words | {"off": False}).get(str(value).lower())
    if chosen is None:
        raise ValueError(f"{value!r} is neither true nor false")
    return chosen


def _folder(value: Any) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{value!r} is not a folder")
    return expand(value)


_PARSERS: dict[str, Callable[[Any], object]] = {
    "home": _folder,
    "context": _count(MAX_CONTEXT_TOKENS, 1),
    "threads": _count(MAX_THREADS, 0),
    "kv": _choice(KV_TYPES),
    "ram": _size,
    "color": _choice(get_args(ColorChoice)),
    "history": _switch,
    "chats": _choice(get_args(KeptChats)),
}
