"""Looking at a folder while another program changes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from app.store import disk


def test_a_folder_that_goes_while_its_parent_is_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"123")
    (tmp_path / "gone" / "deep").mkdir(parents=True)
    (tmp_path / "gone" / "deep" / "file").write_bytes(b"4567")
    files = disk.files_below(tmp_path)
    assert next(files) == tmp_path / "first"
    shutil.rmtree(tmp_path / "gone")
    assert list(files) == []


def test_the_bytes_below_a_folder_are_those_of_its_regular_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_bytes(b"4567")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "pipe")
    assert disk.bytes_below(tmp_path) == 7
    assert disk.bytes_below(tmp_path / "absent") == 0


def test_a_file_that_has_gone_has_no_bytes(tmp_path: Path) -> None:
    assert disk.file_bytes(tmp_path / "absent") == 0
