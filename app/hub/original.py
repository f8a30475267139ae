"""A model's original on the Hub: the weights to quantize from, in outline or fetched for a while."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import NoSuchChoice
from app.hub.api import Hub, RemoteFile, RemoteRepo
from app.hub.choose import candidates, choose
from app.hub.download import CONNECTIONS
from app.hub.headers import remote_gguf_header
from app.hub.pull import Fetch, Listener, fetching
from app.hub.ranges import RangeReader
from app.hub.reference import HubReference
from app.hub.retry import patiently
from app.store import Store
from quant.convert.convert import OutType, write_outline
from quant.convert.metadata import Provenance
from quant.convert.shards import Shards
from quant.files.work import open_work, work_key
from runtime.errors import GgufError
from runtime.gguf import GgufHeader, open_gguf

BEST_GGUF: Final = ("F32", "BF16", "F16", "Q8_0")
"""What is quantized again where a repository has no safetensors: the first that it has, else its largest."""
CONFIG: Final = "config.json"
DOCUMENTS: Final = (".json", ".jinja", ".model", ".txt")
MAX_DOCUMENT_BYTES: Final = 128 << 20
MAX_HEADER_BYTES: Final = 16 << 20
WEIGHTS: Final = ".safetensors"
_MODEL: Final = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_POOLING: Final = "1_Pooling/config.json"


@dataclass(frozen=True)
class Original:
    """A repository at one commit, and the files of the model in it."""

    repo: RemoteRepo
    files: tuple[RemoteFile, ...]
    converts: bool
    """Whether they are safetensors and what belongs to them; else a GGUF, or its parts."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def find_original(hub: Hub, reference: HubReference) -> Original:
    """The best weights behind ``reference``: its safetensors, or what it names, or its largest GGUF.

    Raises :class:`NoSuchChoice` and what asking the Hub raises.
    """
    repo = hub.repo(reference)
    if reference.quant is None and reference.file is None:
        weights = [file for file in repo.files if _MODEL.fullmatch(file.path)]
        if weights and any(file.path == CONFIG for file in repo.files):
            return Original(repo, (*_documents(repo), *weights), converts=True)
        models = candidates(repo.files)
        for label in BEST_GGUF:
            if any(model.label == label for model in models):
                return _gguf(repo, HubReference(repo.repo, reference.revision, quant=label))
        if models:
            return _gguf(repo, HubReference(repo.repo, reference.revision, file=models[-1].files[0].path))
    return _gguf(repo, reference)


def _gguf(repo: RemoteRepo, reference: HubReference) -> Original:
    return Original(repo, choose(reference, repo).model.files, converts=False)


def _documents(repo: RemoteRepo) -> list[RemoteFile]:
    """Configuration and tokenizer: what is no weights, and small."""
    return [
        file
        for file in repo.files
        if (file.path == _POOLING or ("/" not in file.path and file.name.endswith(DOCUMENTS)))
        and file.size <= MAX_DOCUMENT_BYTES
    ]


def provenance_of(hub: Hub, repo: RemoteRepo) -> Provenance:
    """What a file that is made of the repository says of it."""
    return Provenance(
        repository=repo.repo,
        commit=repo.commit,
        url=f"{hub.base}/{repo.repo}",
        license=repo.license,
        sha256={file.path: file.sha256 for file in repo.files if file.sha256},
    )


@dataclass(frozen=True)
class Outline:
    """What is known of an original before its weights are fetched."""

    headers: tuple[GgufHeader, ...]
    """Those that it has as GGUF."""
    window_bytes: int
    """Of the fetched files that are on the disk at once: all of a GGUF, of safetensors a few."""
    working_bytes: int
    """Of the GGUF that is made of safetensors, to work with; else 0."""

    def disk_bytes(self, result_bytes: int) -> int:
        """The most that making a file of ``result_bytes`` of it takes; the result is there twice while it is
        copied into the store."""
        if not self.working_bytes:
            return self.window_bytes + 2 * result_bytes
        return self.working_bytes + max(self.window_bytes, 2 * result_bytes)


def outline(hub: Hub, original: Original, scratch: Path, outtype: OutType | None = None) -> Outline:
    """Reads headers by ranges, and makes that of the GGUF of ``outtype`` in ``scratch`` where there is none.

    Raises what converting raises before it begins, and what asking the Hub raises.
    """
    if not original.converts:
        try:
            headers = [remote_gguf_header(hub, original.repo, file) for file in original.files]
        except GgufError as error:
            raise NoSuchChoice(
                original.repo.repo, str(error), next_command="localq search WORDS --gguf"
            ) from error
        return Outline(tuple(headers), original.size, 0)
    folder = scratch / "repository"
    folder.mkdir(exist_ok=True)
    for file in original.files:
        path = folder / file.path
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            _write_outline_of(hub, original, file, path)
    path = scratch / f"outline-{outtype}.gguf"
    window = write_outline(folder, path, outtype)
    return Outline((open_gguf(path),), window, path.stat().st_size)


def _write_outline_of(hub: Hub, original: Original, file: RemoteFile, path: Path) -> None:
    """The file itself; of weights the header, and a hole behind it."""
    reader = RangeReader(hub, original.repo.repo, original.repo.commit, file)

    def read(start: int, end: int) -> bytes:
        return patiently(lambda: reader.read(start, end), hub.patience)

    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("wb") as out:
        if file.name.endswith(WEIGHTS) and file.size > 8:
            length = int.from_bytes(read(0, 8), "little")
            out.write(read(0, min(8 + min(length, MAX_HEADER_BYTES), file.size)))
            out.truncate(file.size)
        elif file.size:
            out.write(read(0, file.size))
    temporary.replace(path)


@contextmanager
def fetched(
    hub: Hub,
    store: Store,
    original: Original,
    listener: Listener,
    *,
    connections: int = CONNECTIONS,
    reuse: bool = True,
) -> Iterator[Path]:
    """A folder with the files of the GGUF ``original``, until the block ends well.

    What was fetched is kept where the block fails, and the next call goes on with it; ``localq gc`` removes
    it. Raises what fetching raises.
    """
    repo, files = original.repo, original.files
    with (
        fetching(hub, store, repo, files, listener, connections=connections, reuse=reuse) as fetch,
        open_work(store.work, _key(hub, original), "repository") as work,
    ):
        for file in files:
            _link(work.part / file.path, fetch.bring(file).path)
        yield work.part
        for file in files:
            fetch.drop(file)
        work.remove()


@contextmanager
def arriving(
    hub: Hub,
    store: Store,
    original: Original,
    listener: Listener,
    *,
    connections: int = CONNECTIONS,
    reuse: bool = True,
) -> Iterator[tuple[Path, Shards]]:
    """A folder with the documents of the safetensors ``original`` and the headers of its weights, and what
    brings these when they are needed, until the block ends well.

    What was fetched is kept where the block fails. Raises what fetching raises.
    """
    repo, files = original.repo, original.files
    with (
        fetching(
            hub, store, repo, files, listener, connections=connections, reuse=reuse, together=False
        ) as fetch,
        open_work(store.work, _key(hub, original), "repository") as work,
    ):
        weights = {}
        for file in files:
            path = work.part / file.path
            if file.name.endswith(WEIGHTS):
                weights[path.absolute()] = file
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write_outline_of(hub, original, file, path)
            else:
                _link(path, fetch.bring(file).path)
        yield work.part, _Arriving(fetch, weights)
        for file in files:
            fetch.drop(file)
        work.remove()


class _Arriving:
    """Weight files of a :class:`Fetch`, by the paths of their headers."""

    def __init__(self, fetch: Fetch, files: dict[Path, RemoteFile]) -> None:
        self._fetch = fetch
        self._files = files
        self._here: dict[Path, Path] = {}

    def bring(self, path: Path) -> Path:
        if path not in self._here:
            self._here[path] = self._fetch.bring(self._files[path]).path
        return self._here[path]

    def drop(self, path: Path) -> None:
        if path in self._here:
            self._fetch.drop(self._files[path])
        else:
            self._fetch.pass_over(self._files[path])


def _key(hub: Hub, original: Original) -> str:
    repo = original.repo
    return work_key(["original", hub.base, repo.repo, repo.commit, [file.path for file in original.files]])


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def paths_in(folder: Path, files: Sequence[RemoteFile]) -> tuple[Path, ...]:
    """Where the files of a GGUF lie in a folder that :func:`fetched` gave."""
    return tuple(folder / file.path for file in files)
