"""Build everything that is published of a version, from a commit with nothing beside it.

usage: release.py DIST      writes DIST/VERSION, whole or not at all; needs what the parts need

It stops if the checkout has changes that are not committed, or if CHANGELOG.md has no entry for the version.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kit.locked import LOCK, locked
from kit.project import ROOT, pinned, source_date_epoch, version
from kit.sbom import Component, of_lock, write

STEPS = (
    "wheels/build.py",
    "wheels/cross.py",
    "llama/build.py",
    "standalone/build.py",
    "deb/build.py",
    "manifests/render.py",
)
BY_THE_WAY = ("tree",)
"""What the steps leave for each other."""


class NotReady(Exception):
    """The checkout is no release; the text says why."""


def main() -> int:
    """Build; answers the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(sys.argv[1]).absolute() / version()
    try:
        require_clean(ROOT)
        require_entry((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version())
        if target.exists():
            raise NotReady(f"{target} is there already; a version is built once: remove it to build it again")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".release-", dir=target.parent) as folder:
            build(Path(folder))
            require_clean(ROOT)
            Path(folder).chmod(0o755)
            Path(folder).rename(target)
            Path(folder).mkdir()  # what the context removes
    except NotReady as error:
        print(f"localq: no release: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"localq: no release: {error}", file=sys.stderr)
        return 1
    print(target)
    return 0


def require_clean(checkout: Path) -> None:
    """Raises NotReady if ``checkout`` is not just what its commit says."""
    command = ["git", "status", "--porcelain", "--untracked-files=normal"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    if changed := done.stdout.splitlines():
        shown = ", ".join(line[3:] for line in changed[:5]) + (", ..." if len(changed) > 5 else "")
        raise NotReady(
            f"{len(changed)} files are not as the commit has them ({shown}); commit or remove them"
        )


def require_entry(changelog: str, number: str) -> None:
    """Raises NotReady if the changelog has no heading for the version ``number``."""
    if not re.search(rf"^## {re.escape(number)}(\s|$)", changelog, re.MULTILINE):
        raise NotReady(
            f'CHANGELOG.md has no entry "## {number} - DATE"; name what is under "Unreleased" after it'
        )


def build(dist: Path) -> None:
    """Every artefact, its bill and the sums in ``dist``. Raises CalledProcessError."""
    environment = os.environ | {
        "SOURCE_DATE_EPOCH": str(source_date_epoch()),
        "PYTHONPATH": str(ROOT / "packaging"),
    }
    sdist = [sys.executable, "-m", "build", "--sdist", "--outdir", str(dist), str(ROOT)]
    steps = [[sys.executable, str(ROOT / "packaging" / step), str(dist)] for step in STEPS]
    for command in [sdist, *steps]:
        print(f"localq: {' '.join(command[1:])}", file=sys.stderr, flush=True)
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    for name in BY_THE_WAY:
        shutil.rmtree(dist / name)
    shutil.copy(LOCK, dist / "requirements.txt")
    bills(dist)
    (dist / "SHA256SUMS").write_text(sums(dist), encoding="utf-8")


def bills(dist: Path) -> None:
    """The bills of artefacts that name their parts and do not carry them, and of llama.cpp's wheel."""
    lock = of_lock(locked(LOCK.read_text(encoding="utf-8")))
    for artefact in [*dist.glob("localq-*.whl"), dist / f"localq-{version()}.tar.gz"]:
        write(artefact, lock)
    number = pinned("llama-cpp-python").partition("==")[2]
    binding = Component("llama-cpp-python", number, f"pkg:pypi/llama-cpp-python@{number}", "MIT")
    inside = Component("llama.cpp", f"of llama-cpp-python {number}", "pkg:github/ggml-org/llama.cpp", "MIT")
    for artefact in dist.glob("llama_cpp_python-*.whl"):
        write(artefact, [inside], binding)


def sums(dist: Path) -> str:
    """As ``sha256sum --check`` reads them."""
    files = [path for path in sorted(dist.rglob("*")) if path.is_file()]
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(dist)}\n" for path in files
    )


if __name__ == "__main__":
    raise SystemExit(main())
