"""What a person may write where ``pull`` wants a model, taken apart; nothing is looked up here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from app.errors import InvalidReference

MAX_CHARACTERS = 1024
_SEGMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
"""Of a repository's name, as the Hub accepts them."""
_QUANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_CATALOG_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_NO_MODELS = frozenset({"datasets", "spaces", "kernels", "buckets", "collections", "papers", "docs", "api"})
_HOSTS = ("hf.co/", "huggingface.co/", "www.huggingface.co/")
_PATH_STARTS = ("/", "./", "../", "~")


@dataclass(frozen=True)
class HubReference:
    """A model on the Hub: a repository, and in it a quantization, a file, or what suits best."""

    repo: str
    """``org/name``."""
    revision: str | None = None
    """A branch, tag or commit; None is the main branch."""
    quant: str | None = None
    """As in ``org/name:Q4_K_M``."""
    file: str | None = None
    """Path of a file in the repository."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        inside = f"/{self.file}" if self.file else f":{self.quant}" if self.quant else ""
        return f"{self.repo}{revision}{inside}"


@dataclass(frozen=True)
class CatalogReference:
    """A name out of ``assets/catalog.toml``, as it was written."""

    name: str
    quant: str | None = None


@dataclass(frozen=True)
class PathReference:
    """A file or folder on this disk."""

    path: str


Reference: TypeAlias = HubReference | CatalogReference | PathReference


def parse_reference(text: str) -> Reference:
    """Takes ``text`` apart. Raises :class:`InvalidReference`.

    ``/...``, ``./...``, ``../...`` and ``~...`` are paths. ``org/name``, with ``@REVISION`` and then
    ``:QUANT`` or ``/FILE`` behind it, is on the Hub, also behind ``hf.co/``, ``hf://`` or as the address of
    its page. One word is a name in the catalog, if it is made like one, else a path.
    """
    if not text or len(text) > MAX_CHARACTERS:
        raise InvalidReference(text, f"it has {len(text)} characters, 1 to {MAX_CHARACTERS} are allowed")
    if any(not char.isprintable() for char in text):
        raise InvalidReference(text, "it holds control characters")
    if text.startswith(_PATH_STARTS):
        return PathReference(text)
    if "://" in text:
        return _from_url(text)
    for host in _HOSTS:
        if text.lower().startswith(host):
            return _from_url(f"https://{text}")
    if "/" in text:
        return _from_hub(text, text)
    name, colon, quant = text.partition(":")
    if _CATALOG_NAME.fullmatch(name) and not name.endswith(".gguf"):
        return CatalogReference(name, _quant(text, quant) if colon else None)
    return PathReference(text)


def repo_name(text: str, repo: str) -> str:
    """``repo`` if the Hub could have a repository of that name; ``text`` is what the person wrote."""
    segments = repo.split("/")
    if len(segments) != 2 or not all(map(_SEGMENT.fullmatch, segments)):
        raise InvalidReference(
            text, f"{repo[:80]!r} is not OWNER/NAME, made of letters, digits, '.', '_' and '-'"
        )
    if segments[0].lower() in _NO_MODELS:
        raise InvalidReference(text, f"what lies in {segments[0]}/ on the Hub is no model")
    if "--" in repo or ".." in repo or repo.endswith(".git"):
        raise InvalidReference(text, "the Hub allows neither '--' nor '..' nor '.git' in a repository's name")
    return repo


def _from_hub(text: str, rest: str) -> HubReference:
    """``OWNER/NAME``, and ``@REVISION``, and then ``:QUANT`` or ``/FILE``."""
    owner, _, tail = rest.partition("/")
    match = re.match(r"[^@:/]*", tail)
    name = match[0] if match else ""
    repo, tail = repo_name(text, f"{owner}/{name}"), tail[len(name) :]
    revision = None
    if tail.startswith("@"):
        found = re.match(r"@([^:/]*)", tail)
        revision = _revision(text, found[1] if found else "")
        tail = tail[len(revision) + 1 :]
    if not tail or tail == "/":
        return HubReference(repo, revision)
    if tail.startswith(":"):
        return HubReference(repo, revision, quant=_quant(text, tail[1:]))
    return HubReference(repo, revision, file=_file(text, tail[1:]))


def _from_url(text: str) -> HubReference:
    """The address of a repository's page, or of a file's in it; and ``hf://``, which has no host."""
    if text.lower().startswith("hf://"):
        return _from_hub(text, text[len("hf://") :].removeprefix("models/"))
    parts = urlsplit(text)
    if parts.scheme.lower() != "https" or not f"{(parts.hostname or '').lower()}/".startswith(_HOSTS):
        raise InvalidReference(
            text, "only https://huggingface.co and hf.co are known; set HF_ENDPOINT for another Hub"
        )
    segments = parts.path.strip("/").split("/")
    if len(segments) > 3 and segments[2] in ("blob", "resolve", "raw", "tree"):
        repo = repo_name(text, "/".join(segments[:2]))
        revision, file = _revision(text, unquote(segments[3])), unquote("/".join(segments[4:]))
        if not file or segments[2] == "tree":
            return HubReference(repo, revision)
        return HubReference(repo, revision, file=_file(text, file))
    return _from_hub(text, parts.path.strip("/"))


def _quant(text: str, quant: str) -> str:
    if not _QUANT.fullmatch(quant):
        raise InvalidReference(text, f"{quant[:80]!r} is no quantization; write one such as Q4_K_M")
    return quant


def _revision(text: str, revision: str) -> str:
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise InvalidReference(text, f"{revision[:80]!r} is no revision; write a branch, a tag or a commit")
    return revision


def _file(text: str, file: str) -> str:
    from app.hub.filenames import objection

    reason = objection(file)
    if reason is not None:
        raise InvalidReference(text, f"{file[:80]!r} is no file that may be fetched: {reason}")
    return file
