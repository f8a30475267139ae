"""packaging/fetch_demo.py: how the demo model gets its second name.

Fetching itself is tested in tests/app/test_demo.py.
"""

from __future__ import annotations

import errno
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "packaging" / "fetch_demo.py"


def load() -> ModuleType:
    """The script as a module; by its path, because the library `packaging` owns the name."""
    spec = importlib.util.spec_from_file_location("localq_fetch_demo", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fetch_demo = load()


def unsupported(source: Path, target: Path) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), source, None, target)


def test_the_file_is_linked_over_an_older_one(tmp_path: Path) -> None:
    source, target = tmp_path / "blob", tmp_path / "demo.gguf"
    source.write_bytes(b"GGUF")
    target.write_bytes(b"older")
    fetch_demo.place(source, target)
    assert target.samefile(source)
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_without_hard_links_it_is_copied_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "blob", tmp_path / "demo.gguf"
    source.write_bytes(b"GGUF")
    (tmp_path / "demo.gguf.part").write_bytes(b"left by an interrupted run")
    fetch_demo.place(source, target, unsupported)
    assert target.read_bytes() == b"GGUF"
    assert not target.samefile(source)
    assert sorted(tmp_path.iterdir()) == [source, target]
    assert "no hard link (Operation not supported); copying" in capsys.readouterr().err


def test_a_long_fetch_says_every_ten_seconds_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 9.0, 10.0, 10.0, 19.0])
    report = fetch_demo.reporter(lambda: next(times))
    report(1, 4)
    report(2, 4)
    report(3, 4)
    assert capsys.readouterr().err == "localq: fetched and checked 50 %\n"
