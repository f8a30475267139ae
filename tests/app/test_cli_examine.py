from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.examine import Examination, _is_writable, _store
from app.errors import StoreBusy
from app.store import Store
from app.store.names import removal_command
from tests.app.tiny_model import write_tiny_model


def subjects(seen: Examination) -> dict[str, tuple[str, str | None]]:
    return {finding.subject: (finding.status, finding.next_command) for finding in seen.findings}


def test_a_store_that_cannot_be_read_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(store: Store) -> None:
        raise StoreBusy(tmp_path, 1.0)

    monkeypatch.setattr(Store, "usage", busy)
    seen = Examination()
    _store(Store(tmp_path), seen)
    assert subjects(seen) == {"store": ("broken", "localq df")}


def test_a_model_that_lost_its_file_is_broken(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    store.import_file(write_tiny_model(tmp_path / "a.gguf"), "tiny")
    for blob in (store.home / "blobs").iterdir():
        blob.unlink()
    seen = Examination()
    _store(store, seen)
    assert subjects(seen)["store"] == ("broken", f"localq import {tmp_path / 'a.gguf'} --name tiny")


def test_a_folder_that_takes_no_files_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _is_writable(tmp_path / "not" / "yet" / "there")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert not _is_writable(tmp_path / "not" / "yet")
    seen = Examination()
    _store(Store(tmp_path / "home"), seen)
    assert subjects(seen)["store"] == ("broken", f"ls -ld {tmp_path / 'home'}")


def test_a_damaged_manifest_is_removed_by_its_name_or_its_path() -> None:
    assert removal_command(Path("/x/org+model@v1.json")) == "localq rm org/model:v1"
    assert removal_command(Path("/x/Not A Name.json")) == "rm '/x/Not A Name.json'"
