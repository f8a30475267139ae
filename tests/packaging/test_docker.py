"""The Dockerfile's steps as a script, each stage in a Debian of its own; there is no engine here."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, built
from tests.packaging.empty_root import EmptyRoot

pytestmark = [pytest.mark.slow, pytest.mark.model]

NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
"""What a build inside must have of the machine to reach what the machine reaches."""
SERVE = """
/usr/local/bin/start > /models/serve.log 2>&1 &
for second in $(seq 60); do if {health}; then break; fi; sleep 1; done
{health} && echo healthy
exec 3<> /dev/tcp/127.0.0.1/11435
printf '%s\\r\\n' 'GET /v1/models HTTP/1.1' 'Host: 127.0.0.1:11435' 'Connection: close' \\
    "Authorization: Bearer $(cat /models/container.key)" '' >&3
cat <&3
touch /opt/localq/written 2> /dev/null && echo "wrote where it must not"
kill $!; wait $!; echo "ended with $?"
"""


@dataclass
class Stage:
    """One ``FROM``: its instructions in their order."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """What every instruction ``word`` says."""
        return [text for found, text in self.steps if found == word]


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile."""
    found: list[Stage] = []
    for line in re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            found.append(Stage(rest.rpartition(" AS ")[2]))
        else:
            found[-1].steps.append((word, " ".join(rest.split())))
    return found


@pytest.fixture
def dockerfile() -> tuple[Stage, Stage]:
    build, final = stages((ROOT / "packaging" / "docker" / "Dockerfile").read_text())
    return build, final


def with_network(root: EmptyRoot) -> EmptyRoot:
    """The root with this machine's way to the registries."""
    for path in NETWORK:
        if Path(path).is_file():
            root.put(Path(path), path)
    return root


def test_the_image_serves_without_root_with_a_key_and_writes_to_its_volume_only(
    empty_root: EmptyRoot, dockerfile: tuple[Stage, Stage], dist: Path, demo_path: Path, tmp_path: Path
) -> None:
    _, final = dockerfile
    (step,) = final.all("RUN")
    done = with_network(empty_root).run("sh", "-c", step, network=True, seconds=600)
    assert done.returncode == 0, done.stderr
    # what the first stage leaves in /opt/localq: the archive, installed there
    archive = built(dist, "localq-*-linux-MACHINE.tar.gz")
    subprocess.run(["tar", "xzf", str(archive), "-C", str(tmp_path)], check=True)
    (unpacked,) = tmp_path.glob("localq-*-linux-*")
    place = empty_root.folder / "opt" / "localq"
    subprocess.run([unpacked / "install.sh", "--prefix", str(place)], check=True, capture_output=True)
    for copied in final.all("COPY")[1:]:
        source, target = shlex.split(copied)
        shutil.copy(ROOT / source, empty_root.folder / target.lstrip("/"))
    (variables,) = final.all("ENV")
    environment = dict(word.split("=", 1) for word in shlex.split(variables))
    environment["PATH"] = environment["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
    empty_root.put(demo_path, "/srv/demo.gguf")
    user = "localq"
    assert empty_root.run("id", "-u", user).stdout == "10001\n"
    words = ("localq", "import", "/srv/demo.gguf", "--name", "demo")
    assert empty_root.run(*words, user=user, environment=environment).returncode == 0
    health = re.search(r'"(localq ps [^"]*)"', " ".join(final.all("HEALTHCHECK")))
    assert health is not None
    script = SERVE.format(health=health[1])
    served = empty_root.run(
        "bash", "-c", script, user=user, environment=environment, read_only=("/models", "/tmp")
    )
    assert "healthy" in served.stdout, served.stdout + served.stderr
    assert '"id":"demo"' in served.stdout.replace(" ", "")
    assert "wrote where it must not" not in served.stdout
    assert "ended with 0" in served.stdout


def test_the_first_stage_builds_from_a_checkout(
    empty_root: EmptyRoot, dockerfile: tuple[Stage, Stage]
) -> None:
    build, _ = dockerfile
    inside = empty_root.folder / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(inside)], check=True)
    for step in build.all("RUN"):
        done = with_network(empty_root).run("sh", "-c", f"cd /source; {step}", network=True, seconds=3600)
        assert done.returncode == 0, done.stderr[-4000:]
    assert (empty_root.folder / "opt" / "localq" / "bin" / "localq").is_symlink()
    answered = empty_root.run("/opt/localq/bin/localq", "doctor")
    assert answered.returncode == 0, answered.stdout + answered.stderr
