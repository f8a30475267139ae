"""Files that other programs have fetched already: found by size or name, believed only by their hash."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from app.store.hashing import hash_file

MAX_ENTRIES: Final = 20_000
"""That are looked at in one program's folder."""


def find_elsewhere(
    name: str, size: int, sha256: str, on_bytes: Callable[[int], None], home: Path | None = None
) -> Path | None:
    """A file on this machine whose bytes have the hash, in a folder of Hugging Face, Ollama or LM Studio.

    ``name`` is what it is called in its repository. Every candidate is read to its end; ``on_bytes`` gets the
    length of each piece. The path has no symbolic links.
    """
    for candidate in _candidates(name, sha256, home or Path.home()):
        real = _plausible(candidate, size)
        if real is not None and _hash(real, on_bytes) == sha256:
            return real
    return None


def hugging_face_caches(home: Path) -> list[Path]:
    """Where huggingface_hub, and with it transformers, llama.cpp and others, keep what they fetch."""
    environ = os.environ
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    base = Path(environ.get("HF_HOME") or cache / "huggingface")
    return [Path(environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or base / "hub")]


def ollama_folders(home: Path) -> list[Path]:
    """Where Ollama keeps models: of the person, and of its service on Linux."""
    named = os.environ.get("OLLAMA_MODELS")
    return [Path(named)] if named else [home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]


def lm_studio_folders(home: Path) -> list[Path]:
    """Where LM Studio keeps models, now and in older versions."""
    return [home / ".lmstudio/models", home / ".cache/lm-studio/models"]


def _candidates(name: str, sha256: str, home: Path) -> Iterator[Path]:
    for cache in hugging_face_caches(home):
        yield from (
            folder / "blobs" / sha256 for folder in _entries(cache) if folder.name.startswith("models--")
        )
        yield cache / "blobs" / sha256
    for folder in ollama_folders(home):
        yield folder / "blobs" / f"sha256-{sha256}"
    for folder in lm_studio_folders(home):
        for owner in _entries(folder):
            for repo in _entries(owner):
                yield from (file for file in _entries(repo) if file.name == name)


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False))
    except OSError:
        return []


def _plausible(path: Path, size: int) -> Path | None:
    """The file itself behind ``path``, if it is a regular one of that size that can be read and named."""
    try:
        real = Path(os.path.realpath(path, strict=True))
        status = real.lstat()
        str(real).encode("utf-8")
    except (OSError, ValueError):
        return None
    return real if stat.S_ISREG(status.st_mode) and status.st_size == size else None


def _hash(path: Path, on_bytes: Callable[[int], None]) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return hash_file(fd, on_bytes)[0].removeprefix("sha256-")
    except OSError:
        return None
    finally:
        os.close(fd)
