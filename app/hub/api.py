"""What the Hub says of repositories: through the real huggingface_hub client, checked before it is believed.

Importing this module imports huggingface_hub (a third of a second): commands do so when they are run.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

# isort: split
from app.hub.session import HubSession, Patience, Transient, endpoint, host_of  # before huggingface_hub

# isort: split
import httpx2
import huggingface_hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import hf_raise_for_status

from app.errors import HubError, HubMisbehaved, HubOffline, NotAllowed, NotOnHub
from app.hub.filenames import objection
from app.hub.reference import HubReference, repo_name
from app.hub.retry import patiently
from app.version import VERSION

T = TypeVar("T")

MAX_FILES: Final = 20_000
"""Of one repository that are looked at; the largest real ones have some thousands."""
MAX_FILE_BYTES: Final = 1 << 44
QUESTION_ATTEMPTS: Final = 4
"""Of a question that a person waits for: without a network they should know soon."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_USEFUL = (".gguf", ".safetensors", ".json", ".jinja", ".model", ".txt", ".bin", ".pt", ".pth")
_REPO_FACTS = ("sha", "cardData", "gated", "gguf", "safetensors", "tags", "config")
_SEARCH_FACTS = ("cardData", "gated", "gguf", "safetensors", "tags", "config", "downloads", "likes")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at one commit."""

    path: str
    """In the repository; harmless (:mod:`app.hub.filenames`)."""
    size: int
    sha256: str | None
    """Of a file in Git LFS."""
    oid: str
    """Of any other: the hash that git gives its bytes (SHA-1 with a header)."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_gguf(self) -> bool:
        return self.path.lower().endswith(".gguf")

    @property
    def key(self) -> str:
        """What belongs to these bytes and no others."""
        return f"sha256-{self.sha256}" if self.sha256 else f"git-{self.oid}"


@dataclass(frozen=True)
class RemoteRepo:
    """A repository at one commit."""

    repo: str
    commit: str
    license: str | None
    files: tuple[RemoteFile, ...]
    refused: tuple[tuple[str, str], ...]
    """Model files that are left out, and why."""
    config: Mapping[str, Any]
    """What the Hub knows of ``config.json``."""
    parameters: int | None
    """Weights, as the Hub counts them."""


@dataclass(frozen=True)
class FoundRepo:
    """A repository in a search's result, without its files."""

    repo: str
    license: str | None
    downloads: int
    likes: int
    gated: bool
    gguf: bool
    architecture: str | None
    parameters: int | None
    context: int | None


class Hub:
    """The Hub at ``base``. Use it as a context manager: it holds connections.

    Every method raises a :class:`app.errors.HubError`, and waits as :class:`Patience` says.
    """

    def __init__(self, patience: Patience | None = None, base: str | None = None) -> None:
        import os

        # The value that huggingface_hub took when it was imported may be another program's.
        if (os.environ.get("HF_HUB_OFFLINE") or "").upper() in ("1", "ON", "YES", "TRUE"):
            raise HubOffline
        self.patience = patience or Patience()
        self._asking = replace(self.patience, attempts=min(self.patience.attempts, QUESTION_ATTEMPTS))
        self.base = base or endpoint()
        self.session = HubSession(self.base, self.patience, bounded=False)
        """For files: its answers have no bound."""
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        huggingface_hub.set_client_factory(lambda: HubSession(self.base, self.patience, bounded=True))
        self._api = huggingface_hub.HfApi(endpoint=self.base, library_name="localq", library_version=VERSION)

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        huggingface_hub.close_session()

    def headers(self) -> dict[str, str]:
        """Of a request for a file: the person's token, if there is one, and who asks."""
        return build_hf_headers(library_name="localq", library_version=VERSION)

    def url(self, repo: str, commit: str, path: str) -> str:
        """Where a file lies."""
        return huggingface_hub.hf_hub_url(repo, path, revision=commit, endpoint=self.base)

    def repo(self, reference: HubReference) -> RemoteRepo:
        """The repository, pinned to the commit that the reference's revision is at now, and its files.

        Raises :class:`NotOnHub`, :class:`NotAllowed`.
        """
        info = self._ask(
            reference.repo,
            lambda: self._api.model_info(
                reference.repo,
                revision=reference.revision,
                expand=list(_REPO_FACTS),  # type: ignore[arg-type]
            ),
        )
        commit = info.sha
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise HubMisbehaved(host_of(self.base), f"says that {reference.repo} is at {str(commit)[:50]!r}")
        repo = repo_name(reference.repo, str(info.id))  # the new one, of a repository that was renamed
        files, refused = self._ask(repo, lambda: self._files(repo, commit))
        return RemoteRepo(
            repo=repo,
            commit=commit,
            license=license_of(info),
            files=files,
            refused=refused,
            config=info.config if isinstance(info.config, dict) else {},
            parameters=parameters_of(info),
        )

    def search(self, words: str, *, gguf: bool, sort: str, limit: int) -> list[FoundRepo]:
        """At most ``limit`` repositories with language models whose names match."""
        found = self._ask(
            "a search",
            lambda: list(
                self._api.list_models(
                    search=words,
                    filter=["gguf"] if gguf else None,
                    pipeline_tag=None if gguf else "text-generation",
                    sort=sort,  # type: ignore[arg-type]
                    limit=limit,
                    expand=list(_SEARCH_FACTS),  # type: ignore[arg-type]
                )
            ),
        )
        return [_found(info) for info in found if objection(str(info.id)) is None]

    def check(self, response: httpx2.Response, what: str) -> None:
        """Raises the :class:`HubError` for an answer that is no success; the session raises some itself."""
        if response.is_error:
            with self._translated(what):
                response.read()
                hf_raise_for_status(response)

    def _files(self, repo: str, commit: str) -> tuple[tuple[RemoteFile, ...], tuple[tuple[str, str], ...]]:
        files: list[RemoteFile] = []
        refused: list[tuple[str, str]] = []
        for count, entry in enumerate(self._api.list_repo_tree(repo, recursive=True, revision=commit)):
            if count >= MAX_FILES:
                raise HubMisbehaved(host_of(self.base), f"{repo} has more than {MAX_FILES} files")
            if not isinstance(entry, RepoFile) or not str(entry.path).lower().endswith(_USEFUL):
                continue
            file = _remote_file(entry)
            if isinstance(file, str):
                refused.append((str(entry.path)[:200], file))
            else:
                files.append(file)
        return tuple(files), tuple(refused)

    def _ask(self, what: str, action: Callable[[], T]) -> T:
        def once() -> T:
            with self._translated(what):
                return action()

        return patiently(once, self._asking)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """huggingface_hub's errors as ours, and malformed answers too."""
        host = host_of(self.base)
        try:
            yield
        except (HubError, Transient):
            raise
        except hub_errors.OfflineModeIsEnabled as error:
            raise HubOffline from error
        except hub_errors.HfHubHTTPError as error:
            raise _refusal(what, error) from error
        except (hub_errors.HFValidationError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise HubMisbehaved(host, f"cannot be asked for {what}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HubMisbehaved(
                host, f"sent an answer about {what} that is not of the Hub's form ({type(error).__name__})"
            ) from error


def _refusal(what: str, error: hub_errors.HfHubHTTPError) -> HubError:
    status = error.response.status_code
    login = "hf auth login"
    if isinstance(error, hub_errors.GatedRepoError):
        return NotAllowed(
            what,
            status,
            "the repository is gated: accept its conditions on its page, and give a token of that account",
            next_command=login,
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return NotOnHub(f"revision of {what} that is called so")
    if isinstance(error, hub_errors.EntryNotFoundError):
        return NotOnHub(f"file {what}")
    if status == 401 and "authorization" in error.response.request.headers:
        return NotAllowed(what, status, "the Hub does not accept the token", next_command=login)
    if isinstance(error, hub_errors.RepositoryNotFoundError) or status in (401, 404):
        return NotOnHub(
            f"repository {what}",
            ", or it is private; a token (HF_TOKEN, `hf auth login`) shows your own",
            next_command=f"localq search {what.rpartition('/')[2]}",
        )
    if status == 403:
        return NotAllowed(
            what, status, "the Hub forbids it; your token may lack the right", next_command=login
        )
    return HubMisbehaved(host_of(error.response.request.url), f"answers HTTP {status} when asked for {what}")


def _remote_file(entry: RepoFile) -> RemoteFile | str:
    """The file, or why it is refused."""
    reason = objection(entry.path)
    if reason is not None:
        return reason
    size = entry.lfs.size if entry.lfs else entry.size
    sha256 = str(entry.lfs.sha256).lower() if entry.lfs else None
    oid = str(entry.blob_id).lower()
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_FILE_BYTES:
        return f"the Hub says that it has {str(size)[:30]} bytes"
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        return f"the Hub gives {sha256[:80]!r} as its SHA-256"
    if sha256 is None and not _COMMIT.fullmatch(oid):
        return f"the Hub gives {oid[:80]!r} as its hash"
    return RemoteFile(entry.path, size, sha256, oid)


def license_of(info: huggingface_hub.ModelInfo) -> str | None:
    """What the repository's card states, or its tags."""
    card = info.card_data
    stated = getattr(card, "license", None)
    if stated == "other":
        stated = getattr(card, "license_name", None) or stated
    if isinstance(stated, str):
        return stated[:100]
    tags = info.tags if isinstance(info.tags, list) else []
    found = (tag.removeprefix("license:") for tag in tags if str(tag).startswith("license:"))
    return next((str(tag)[:100] for tag in found), None)


def parameters_of(info: huggingface_hub.ModelInfo) -> int | None:
    """Weights: of the GGUF that the Hub looked at, or of all safetensors."""
    counts = (info.gguf or {}).get("total"), getattr(info.safetensors, "total", None)
    return next((count for count in counts if isinstance(count, int) and count > 0), None)


def _found(info: huggingface_hub.ModelInfo) -> FoundRepo:
    gguf = info.gguf if isinstance(info.gguf, dict) else {}
    config = info.config if isinstance(info.config, dict) else {}
    architecture = gguf.get("architecture") or config.get("model_type")
    context = gguf.get("context_length")
    return FoundRepo(
        repo=str(info.id),
        license=license_of(info),
        downloads=info.downloads if isinstance(info.downloads, int) else 0,
        likes=info.likes if isinstance(info.likes, int) else 0,
        gated=bool(info.gated),
        gguf=bool(gguf) or "gguf" in (info.tags or []),
        architecture=str(architecture)[:64] if architecture else None,
        parameters=parameters_of(info),
        context=context if isinstance(context, int) else None,
    )
