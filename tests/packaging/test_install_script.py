"""install.sh with a stand-in for the program: what lies below a prefix already stays as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the archive is Linux's")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A folder like the unpacked archive's."""
    top = tmp_path / "localq-archive"
    (top / "lib" / "localq").mkdir(parents=True)
    program = top / "lib" / "localq" / "localq"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (top / "bin").mkdir()
    (top / "bin" / "localq").symlink_to("../lib/localq/localq")
    (top / "lib" / "systemd" / "user").mkdir(parents=True)
    (top / "lib" / "systemd" / "user" / "localq.service").write_text("ExecStart=@PREFIX@/bin/localq\n")
    (top / "share" / "doc" / "localq").mkdir(parents=True)
    (top / "share" / "doc" / "localq" / "LICENSE").write_text("text")
    shutil.copy(ROOT / "packaging" / "standalone" / "install.sh", top / "install.sh")
    return top


def install(unpacked: Path, prefix: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(unpacked / "install.sh"), "--prefix", str(prefix), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_installs_and_removes_every_file_of_its_own(unpacked: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    done = install(unpacked, prefix)
    assert done.returncode == 0, done.stderr
    assert (prefix / "bin" / "localq").resolve() == prefix / "lib" / "localq" / "localq"
    assert str(prefix) in (prefix / "lib/systemd/user/localq.service").read_text()
    assert install(unpacked, prefix).returncode == 0, "over itself"
    assert install(unpacked, prefix, "--remove").returncode == 0
    assert [path for path in prefix.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("name", ["bin", "lib", "share"])
def test_a_folder_that_is_a_link_stays_one(name: str, unpacked: Path, tmp_path: Path) -> None:
    prefix, elsewhere = tmp_path / "prefix", tmp_path / "elsewhere"
    prefix.mkdir()
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("a person's")
    (prefix / name).symlink_to(elsewhere)
    assert install(unpacked, prefix).returncode == 0
    assert (prefix / name).is_symlink()
    assert (prefix / name / "kept").read_text() == "a person's"
    assert install(unpacked, prefix, "--remove").returncode == 0
    assert [path.name for path in elsewhere.rglob("*") if not path.is_dir()] == ["kept"]


def test_the_program_of_another_installation_is_not_replaced(unpacked: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "localq").symlink_to("/somewhere/uv/localq")  # a link to nothing counts too
    done = install(unpacked, prefix)
    assert done.returncode == 1
    assert "another installation" in done.stderr
    assert (prefix / "bin" / "localq").readlink() == Path("/somewhere/uv/localq")


@pytest.mark.parametrize("prefix", ["/", "/srv/a%b", '/srv/a"b', "/srv/a$b", "/srv/a|b", "/srv/a&b"])
def test_a_prefix_that_no_unit_can_name_is_refused(prefix: str, unpacked: Path) -> None:
    done = install(unpacked, prefix)
    assert (done.returncode, "install.sh:" in done.stderr) == (2, True)


def test_a_container_whose_first_start_was_cut_off_makes_its_key_again(tmp_path: Path) -> None:
    """A stand-in for localq, which knows names of keys as the real one does."""
    program = tmp_path / "localq"
    program.write_text(
        """#!/bin/sh
case "$1 $2" in
    "key rm") rm "$LOCALQ_HOME/name" ;;
    "key new") [ ! -e "$LOCALQ_HOME/name" ] || exit 2; : > "$LOCALQ_HOME/name"; echo secret ;;
    *) echo "$@" ;;
esac
"""
    )
    program.chmod(0o755)
    (tmp_path / "name").touch()  # registered, but container.key was not written
    done = subprocess.run(
        [str(ROOT / "packaging" / "docker" / "start.sh")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LOCALQ_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "serve --host 0.0.0.0\n"), done.stderr
    assert (tmp_path / "container.key").read_text() == "secret\n"
