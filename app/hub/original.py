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
from app.hub.pull import Listener, fetching
from app.hub.ranges import RangeReader
from app.hub.reference import HubReference
from app.hub.retry import patiently
from app.store import Store
from quant.convert.convert import write_outline
from quant.convert.metadata import Provenance
from quant.files.work import open_work, work_key
from runtime.errors import GgufError
from runtime.gguf import GgufHeader, open_gguf

BEST_GGUF: Final = ("F32", "BF16", "F16", "Q8_0")
"""What is quantized again where a repository has no safetensors: the first that it has, else its largest."""
CONFIG: Final = "config.json"
DOCUMENTS: Final = (".json", ".jinja", ".model", ".txt")
MAX_DOCUMENT_BYTES: Final = 128 << 20
MAX_HEADER_BYTES: Final = 16 << 20
_WEIGHTS: Final = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
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
        weights = [file for file in repo.files if _WEIGHTS.fullmatch(file.path)]
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


def outline(hub: Hub, original: Original, scratch: Path) -> list[GgufHeader]:
    """The headers that the model has as GGUF, without its weights: they are read by ranges, or made in
    ``scratch`` of the repository's own.

    Raises what converting raises before it begins, and what asking the Hub raises.
    """
    if not original.converts:
        try:
            return [remote_gguf_header(hub, original.repo, file) for file in original.files]
        except GgufError as error:
            raise NoSuchChoice(
                original.repo.repo, str(error), next_command="localq search WORDS --gguf"
            ) from error
    folder = scratch / "repository"
    folder.mkdir()
    for file in original.files:
        path = folder / file.path
        path.parent.mkdir(exist_ok=True)
        reader = RangeReader(hub, original.repo.repo, original.repo.commit, file)

        def read(start: int, end: int, reader: RangeReader = reader) -> bytes:
            return patiently(lambda: reader.read(start, end), hub.patience)

        with path.open("xb") as out:
            if file.name.endswith(".safetensors") and file.size > 8:
                length = int.from_bytes(read(0, 8), "little")
                out.write(read(0, min(8 + min(length, MAX_HEADER_BYTES), file.size)))
                out.truncate(file.size)  # a hole in the place of the weights
            elif file.size:
                out.write(read(0, file.size))
    path = scratch / "outline.gguf"
    write_outline(folder, path)
    return [open_gguf(path)]


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
    """A folder with the files of ``original``, until the block ends well.

    What was fetched is kept where the block fails, and the next call goes on with it; ``localq gc`` removes
    it. Raises what fetching raises.
    """
    repo = original.repo
    key = work_key(["original", hub.base, repo.repo, repo.commit, [file.path for file in original.files]])
    with (
        fetching(hub, store, repo, original.files, listener, connections=connections, reuse=reuse) as fetch,
        open_work(store.work, key, "repository") as work,
    ):
        folder = work.part
        for file in original.files:
            arrival = fetch.bring(file)
            link = folder / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(arrival.path)
        yield folder
        for file in original.files:
            fetch.drop(file)
        work.remove()


def paths_in(folder: Path, files: Sequence[RemoteFile]) -> tuple[Path, ...]:
    """Where the files of a GGUF lie in a folder that :func:`fetched` gave."""
    return tuple(folder / file.path for file in files)
