"""What stops a release, and what it says of its files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import release

from app.version import VERSION


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one file, committed."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "file").write_text("1")
    for words in (
        ["init", "-q"],
        ["add", "file"],
        ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_a_clean_checkout_may_be_released(checkout: Path) -> None:
    release.require_clean(checkout)


@pytest.mark.parametrize("name", ["file", "other"])
def test_a_changed_or_unknown_file_stops_it_by_name(checkout: Path, name: str) -> None:
    (checkout / name).write_text("2")
    with pytest.raises(release.NotReady, match=rf"1 files are not as the commit has them \({name}\)"):
        release.require_clean(checkout)


def test_a_version_without_an_entry_in_the_changelog_stops_it() -> None:
    release.require_entry("# Changelog\n\n## 1.2.0 - 2026-01-01\n", "1.2.0")
    for text in ("## Unreleased\n", "## 1.2.0.1\n", "see 1.2.0\n"):
        with pytest.raises(release.NotReady, match=r'"## 1\.2\.0 - DATE"'):
            release.require_entry(text, "1.2.0")


def test_nothing_is_built_when_it_stops(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(release, "ROOT", checkout)
    monkeypatch.setattr("sys.argv", ["release.py", str(tmp_path / "dist")])
    (checkout / "file").write_text("2")
    assert release.main() == 1
    assert "no release: 1 files are not" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


def test_a_release_is_whole_or_not_at_all_and_is_never_replaced(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "CHANGELOG.md").write_text(f"## {VERSION} - 2026-01-01\n")
    subprocess.run(["git", "add", "."], cwd=checkout, check=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run(["git", *identity, "commit", "-qm", "b"], cwd=checkout, check=True)
    monkeypatch.setattr(release, "ROOT", checkout)
    dist = tmp_path / "dist"
    monkeypatch.setattr("sys.argv", ["release.py", str(dist)])

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise subprocess.CalledProcessError(1, ["step"])

    monkeypatch.setattr(release, "build", fail)
    assert release.main() == 1
    assert list(dist.iterdir()) == []
    monkeypatch.setattr(release, "build", lambda folder: (folder / "whole").touch())
    assert release.main() == 0
    assert [path.name for path in dist.rglob("*")] == [VERSION, "whole"]
    assert release.main() == 1
    assert "built once" in capsys.readouterr().err


def test_sums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("1")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c").write_text("2")
    (tmp_path / "SHA256SUMS").write_text(release.sums(tmp_path))
    command = ["sha256sum", "--strict", "--check", "SHA256SUMS"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["a/c: OK", "b: OK"]
