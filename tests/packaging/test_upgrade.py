"""From one version to the next: chats and models stay, and a migration that is killed has not happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from kit.zips import add_to_wheel, read

from app.chats import Chats
from app.chats.schema import MIGRATIONS
from app.errors import ChatsDamaged
from app.version import VERSION
from tests.app.chats_kit import talk
from tests.packaging.conftest import ROOT, built
from tests.packaging.next_version import NEXT, STATEMENTS

CHATS, TURNS = 24, 8
Said = list[tuple[str, str, str]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chats of this version."""
    home = tmp_path_factory.mktemp("written")
    with Chats(home) as chats:
        for number in range(CHATS):
            talk(chats, *(f"chat {number} turn {turn} " + "Grüße 🦙 " * 300 for turn in range(TURNS)))
        chats.delete([3])
    return home


@pytest.fixture
def home(written: Path, tmp_path: Path) -> Path:
    """A copy of those, to be upgraded."""
    return Path(shutil.copytree(written, tmp_path / "home"))


def said(home: Path) -> Said:
    """Every message as it stands in the file, which is sound."""
    with sqlite3.connect(home / "chats" / "chats.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = connection.execute("SELECT uid, role, content FROM message ORDER BY id").fetchall()
    connection.close()
    return found


def number_of_migrations(home: Path) -> int:
    with sqlite3.connect(home / "chats" / "chats.db") as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(found)


def upgrade(home: Path, *statement: int) -> subprocess.CompletedProcess[str]:
    """Open the chats with the next version; killed before a statement of its migration, if one is given."""
    command = [sys.executable, "-m", "tests.packaging.next_version", str(home), *map(str, statement)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_next_version_brings_every_message_along(home: Path) -> None:
    before = said(home)
    done = upgrade(home)
    messages = (CHATS - 1) * TURNS
    assert (done.returncode, done.stdout) == (0, f"{messages}\n{messages}\n"), done.stderr
    assert said(home) == before
    assert number_of_migrations(home) == len(MIGRATIONS) + 1
    with pytest.raises(ChatsDamaged, match="update localq"):
        Chats(home)


@pytest.mark.parametrize("statement", range(STATEMENTS + 1))
def test_a_migration_that_is_killed_has_not_happened_and_is_made_the_next_time(
    home: Path, statement: int
) -> None:
    before = said(home)
    assert upgrade(home, statement).returncode == -signal.SIGKILL
    with Chats(home) as chats:  # this version goes on with the file
        assert chats.count() == CHATS - 1
        talk(chats, "between")
    assert number_of_migrations(home) == len(MIGRATIONS)
    assert said(home)[:-1] == before
    assert upgrade(home).returncode == 0
    assert said(home)[:-1] == before
    assert number_of_migrations(home) == len(MIGRATIONS) + 1


@pytest.fixture
def next_wheel(dist: Path, tmp_path: Path) -> Path:
    """The built wheel as the next version would be: another number, and one more migration."""
    wheel = built(dist, f"localq-{VERSION}-py3-none-*_MACHINE.whl")
    number = f"{VERSION}.post1"
    files = {}
    for name, data in read(wheel).items():
        if name == "app/version.py":
            data = data.replace(VERSION.encode(), number.encode())
        elif name == "app/chats/schema.py":
            data += f"\nMIGRATIONS = (*MIGRATIONS, {NEXT!r})\n".encode()
        elif name.endswith("/METADATA"):
            data = data.replace(f"\nVersion: {VERSION}\n".encode(), f"\nVersion: {number}\n".encode())
        files[name.replace(f"localq-{VERSION}.dist-info", f"localq-{number}.dist-info")] = data
    target = tmp_path / wheel.name.replace(f"-{VERSION}-", f"-{number}-")
    add_to_wheel(wheel, target, files, timestamp=0, drop=(f"localq-{VERSION}.dist-info/",))
    return target


@pytest.mark.slow
@pytest.mark.model
def test_one_built_wheel_over_another_loses_nothing(
    dist: Path, next_wheel: Path, home: Path, demo_path: Path, tmp_path: Path
) -> None:
    wheel = built(dist, f"localq-{VERSION}-py3-none-*_MACHINE.whl")
    venv = tmp_path / "venv"
    # what both need is this environment's; the two wheels are what changes
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(venv)], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]

    def localq(*words: str) -> subprocess.CompletedProcess[str]:
        variables = os.environ | {"LOCALQ_HOME": str(home), "LOCALQ_CONFIG": "/dev/null"}
        command = [str(venv / "bin" / "localq"), *words]
        return subprocess.run(
            command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    def kept() -> tuple[object, object, str]:
        chats, models = (
            json.loads(localq(*words).stdout) for words in (["chats", "list", "--json"], ["list", "--json"])
        )
        return chats, models, localq("verify").stdout

    subprocess.run([*pip, str(wheel)], check=True)
    assert localq("import", str(demo_path), "--name", "demo").returncode == 0
    messages, before = said(home), kept()
    subprocess.run([*pip, str(next_wheel)], check=True)
    assert localq("--version").stdout == f"localq {VERSION}.post1\n"
    assert kept() == before
    assert said(home) == messages
    assert number_of_migrations(home) == len(MIGRATIONS) + 1
    subprocess.run([*pip, str(wheel)], check=True)
    back = localq("chats", "list")
    assert back.returncode == 1 and "update localq" in back.stderr
    assert said(home) == messages
