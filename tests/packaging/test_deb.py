"""The Debian package in an empty Debian: no compiler, no Python, no network."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.version import VERSION
from tests.packaging.conftest import built
from tests.packaging.empty_root import EmptyRoot

pytestmark = [pytest.mark.slow, pytest.mark.model]

QUESTION = "What is the capital of France?"
BOOKKEEPING = re.compile(r"(etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|var/(lib/dpkg|cache|log)/.*)$")
"""What dpkg and useradd write of every package."""
CARRIED = {
    "custom-library-search-path",
    "embedded-library",
    "library-not-linked-against-libc",
    "unstripped-binary-or-object",
}
"""What lintian says of Python's and other wheels' libraries, which are carried as they come."""
SERVE = """
setpriv --reuid=localq --regid=localq --init-groups env LOCALQ_HOME=/var/lib/localq LOCALQ_CONFIG=/dev/null \\
    localq serve demo > /tmp/serve.log 2>&1 &
server=$!
for second in $(seq 60); do
    if LOCALQ_HOME=/var/lib/localq localq ps --quiet | grep -q .; then break; fi; sleep 1
done
exec 3<> /dev/tcp/127.0.0.1/11435
printf 'GET /v1/models HTTP/1.1\\r\\nHost: 127.0.0.1:11435\\r\\nConnection: close\\r\\n\\r\\n' >&3
cat <&3
stat -c %U /proc/$server
kill $server; wait $server; echo "ended with $?"
"""


@pytest.fixture
def package(dist: Path) -> Path:
    return built(dist, "localq_*_amd64.deb")


@pytest.fixture
def installed(empty_root: EmptyRoot, package: Path, demo_path: Path) -> EmptyRoot:
    """The package installed, and the demo model's file beside it."""
    for program in ("cc", "gcc", "c++", "g++", "python3"):
        assert empty_root.run("sh", "-c", f"command -v {program}").returncode != 0
    empty_root.put(demo_path, "/srv/demo.gguf")
    done = empty_root.run("dpkg", "-i", empty_root.put(package, "/srv/localq.deb"))
    assert done.returncode == 0, done.stdout + done.stderr
    return empty_root


def answer(root: EmptyRoot) -> str:
    """What the demo model says in ``root``."""
    done = root.run("localq", "run", "demo", QUESTION)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_answers_is_green_and_leaves_only_what_a_person_keeps(
    empty_root: EmptyRoot, package: Path, demo_path: Path
) -> None:
    empty_root.put(demo_path, "/srv/demo.gguf")
    empty_root.put(package, "/srv/localq.deb")
    before = empty_root.files()
    assert empty_root.run("dpkg", "-i", "/srv/localq.deb").returncode == 0
    assert empty_root.run("localq", "--version").stdout == f"localq {VERSION}\n"
    doctor = empty_root.run("localq", "doctor")
    assert doctor.returncode == 0 and "localq's own kernels multiply inside llama.cpp: " in doctor.stdout
    assert empty_root.run("localq", "import", "/srv/demo.gguf", "--name", "demo").returncode == 0
    assert "Paris" in answer(empty_root)
    removed = empty_root.run("dpkg", "--purge", "localq")
    assert "~/.local/share/localq of each user" in removed.stdout + removed.stderr
    left = {path for path in empty_root.files() - before if not BOOKKEEPING.match(path)}
    assert left and all(path.startswith(("root/.local", "root/.cache")) for path in left), left
    assert empty_root.run("getent", "passwd", "localq").returncode == 2
    assert not before - empty_root.files()


def test_the_service_form_runs_as_its_own_user_and_keeps_its_models(installed: EmptyRoot) -> None:
    as_service = ["setpriv", "--reuid=localq", "--regid=localq", "--init-groups"]
    home = {"LOCALQ_HOME": "/var/lib/localq", "LOCALQ_CONFIG": "/dev/null"}
    words = ["localq", "import", "/srv/demo.gguf", "--name", "demo"]
    assert installed.run(*as_service, *words, environment=home).returncode == 0
    served = installed.run("bash", "-c", SERVE)
    assert '"id":"demo"' in served.stdout.replace(" ", ""), served.stdout + served.stderr
    assert served.stdout.endswith("localq\nended with 0\n")
    removed = installed.run("dpkg", "--remove", "localq")
    assert "models of the service stay in /var/lib/localq" in removed.stdout + removed.stderr
    purged = installed.run("dpkg", "--purge", "localq")
    assert "holds models and stays" in purged.stdout + purged.stderr
    assert (installed.folder / "var/lib/localq/manifests/demo.json").is_file()
    assert installed.run("getent", "passwd", "localq").returncode == 0


def test_a_newer_package_over_it_loses_nothing(installed: EmptyRoot, package: Path, tmp_path: Path) -> None:
    assert installed.run("localq", "import", "/srv/demo.gguf", "--name", "demo").returncode == 0
    assert "Paris" in answer(installed)
    settings = installed.folder / "etc/default/localq"
    settings.write_text('LOCALQ_SERVE="demo"\n')
    kept = {path: path.read_bytes() for path in (installed.folder / "root").rglob("*.json")}
    unpacked = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-R", str(package), str(unpacked)], check=True)
    control = unpacked / "DEBIAN" / "control"
    control.write_text(control.read_text().replace(f"Version: {VERSION}", f"Version: {VERSION}+next"))
    newer = tmp_path / "newer.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(unpacked), str(newer)], check=True)
    shutil.rmtree(unpacked)
    done = installed.run("dpkg", "-i", installed.put(newer, "/srv/newer.deb"))
    assert done.returncode == 0, done.stderr
    shown = installed.run("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "localq")
    assert shown.stdout == f"{VERSION}+next installed"
    assert settings.read_text() == 'LOCALQ_SERVE="demo"\n'
    assert {path: path.read_bytes() for path in kept} == kept
    assert "Paris" in answer(installed)


def test_manual_completions_and_units_are_in_their_places(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", str(package), str(tmp_path)], check=True)
    for place in (
        "usr/share/man/man1/localq-pull.1.gz",
        "usr/share/bash-completion/completions/localq",
        "usr/share/zsh/vendor-completions/_localq",
        "usr/share/fish/vendor_completions.d/localq.fish",
        "usr/lib/systemd/user/localq.service",
        "lib/systemd/system/localq.service",
        "usr/share/doc/localq/copyright",
        "usr/share/doc/localq/licenses/numpy",
    ):
        assert (tmp_path / place).exists(), place
    units = [tmp_path / "usr/lib/systemd/user/localq.service", tmp_path / "lib/systemd/system/localq.service"]
    for unit in units:
        assert "@PREFIX@" not in unit.read_text()
        if shutil.which("systemd-analyze"):
            (tmp_path / "bin").mkdir(exist_ok=True)
            command = ["systemd-analyze", "verify", "--man=no", f"--root={tmp_path}", str(unit)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said = done.stderr.splitlines()  # that the package has no sysinit.target is no fault of the unit
            assert not [line for line in said if "localq.service" in line and "target not found" not in line]


@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs lintian")
def test_lintian_finds_no_error_but_those_of_carrying_its_libraries(package: Path) -> None:
    command = ["lintian", "--fail-on", "none", "--tag-display-limit", "0", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    errors = {line.split()[2] for line in done.stdout.splitlines() if line.startswith("E: ")}
    assert errors <= CARRIED, done.stdout
