"""The self-contained archive in an empty Debian, for root and for somebody who is not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from app.version import VERSION
from tests.packaging.conftest import built
from tests.packaging.empty_root import EmptyRoot

pytestmark = [pytest.mark.slow, pytest.mark.model]


@pytest.fixture
def unpacked(empty_root: EmptyRoot, dist: Path, demo_path: Path) -> EmptyRoot:
    """The archive unpacked in /srv, beside the demo model's file."""
    archive = built(dist, f"localq-{VERSION}-linux-MACHINE.tar.gz")
    (empty_root.folder / "srv").mkdir(exist_ok=True)
    subprocess.run(["tar", "xzf", str(archive), "-C", str(empty_root.folder / "srv")], check=True)
    (folder,) = (empty_root.folder / "srv").iterdir()
    folder.rename(folder.parent / "localq")
    empty_root.put(demo_path, "/srv/demo.gguf")
    empty_root.run("useradd", "--create-home", "ann")
    return empty_root


@pytest.mark.parametrize(("user", "prefix"), [("root", "usr/local"), ("ann", "home/ann/.local")])
def test_it_installs_answers_and_leaves_only_what_a_person_keeps(
    unpacked: EmptyRoot, user: str, prefix: str
) -> None:
    before = unpacked.files()
    done = unpacked.run("/srv/localq/install.sh", user=user)
    assert done.returncode == 0, done.stderr
    assert f"installed localq {VERSION}: /{prefix}/bin/localq" in done.stdout
    program = f"/{prefix}/bin/localq"
    assert unpacked.run(program, "doctor", user=user).returncode == 0
    assert unpacked.run(program, "import", "/srv/demo.gguf", "--name", "demo", user=user).returncode == 0
    answered = unpacked.run(program, "run", "demo", "What is the capital of France?", user=user)
    assert "Paris" in answered.stdout, answered.stderr
    unit = (unpacked.folder / prefix / "lib/systemd/user/localq.service").read_text()
    assert f"/{prefix}/bin/localq" in unit and "@PREFIX@" not in unit
    assert unpacked.run("/srv/localq/install.sh", user=user).returncode == 0, "installed over itself"
    removed = unpacked.run("/srv/localq/install.sh", "--remove", user=user)
    assert "models and chats stay in ~/.local/share/localq" in removed.stdout
    home = "root" if user == "root" else "home/ann"
    left = {path for path in unpacked.files() - before if (unpacked.folder / path).is_file()}
    assert left and all(path.startswith((f"{home}/.local/share/localq/", f"{home}/.cache")) for path in left)
    assert unpacked.run("/srv/localq/install.sh", "--remove", user=user).returncode == 1


def test_it_runs_where_it_was_unpacked(unpacked: EmptyRoot) -> None:
    done = unpacked.run("/srv/localq/bin/localq", "--version", user="ann")
    assert done.stdout == f"localq {VERSION}\n"


@pytest.mark.parametrize(
    ("hidden", "has", "lacks"),
    [("", "FMA", ""), ("-AVX512F", "AVX2", "AVX512"), ("-AVX512F,-AVX2", "SSSE3", "AVX2")],
)
def test_llama_cpp_is_of_the_best_level_that_the_processor_has(
    unpacked: EmptyRoot, hidden: str, has: str, lacks: str
) -> None:
    tunables = {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={hidden}"} if hidden else {}
    done = unpacked.run("/srv/localq/bin/localq", "doctor", "--json", environment=tunables)
    features = json.loads(done.stdout)["llama"]["features"]
    assert features.get(has) and not features.get(lacks)
