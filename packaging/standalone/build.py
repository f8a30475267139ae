"""Build the self-contained localq for Linux: a folder that needs no Python and no compiler, as .tar.gz.

usage: build.py DIST      takes the wheels of localq and llama-cpp-python in DIST, and writes there
                          localq-VERSION-linux-x86_64.tar.gz, its bill of materials, and the folder `tree`

Python's own libraries and PyInstaller's choice of them come from the machine that builds, so this wants to be
the oldest system that shall be served; the archive's README says which C library it needs.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

from kit.archives import settle, tar_gz
from kit.elf import newest_glibc
from kit.locked import LOCK, TOOLS, locked
from kit.parts import notices, system_libraries
from kit.project import ROOT, pinned, source_date_epoch, version
from kit.sbom import Component, packages, write
from kit.tree import populate

LLAMA = "llama-cpp-python"
FREEZERS = ("pyinstaller", "pyinstaller-hooks-contrib", "altgraph", "setuptools")
"""Packages that only make the folder."""


def main() -> int:
    """Build; answers the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    dist = Path(sys.argv[1]).absolute()
    try:
        localq = one(dist, f"localq-{version()}-*_{platform.machine()}.whl")
        llama = one(dist, f"llama_cpp_python-{pinned(LLAMA).partition('==')[2]}-*.whl")
    except FileNotFoundError as error:
        print(f"localq: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="localq-standalone-") as folder:
        work = Path(folder)
        python = environment(work / "venv", localq, llama)
        tree = dist / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        populate(tree, freeze(python, work), python)
        installed = [found for found in distributions(path=site_packages(work / "venv")) if is_inside(found)]
        libraries = system_libraries(tree / "lib" / "localq" / "_internal")
        notices(tree / "share" / "doc" / "localq" / "licenses", installed, libraries)
        print(archive(dist, tree, work / name()))
        print(write(dist / f"{name()}.tar.gz", components(installed, [part for part, _ in libraries])))
    return 0


def name() -> str:
    """Of the archive and its folder."""
    return f"localq-{version()}-linux-{platform.machine()}"


def one(folder: Path, pattern: str) -> Path:
    """The one file of that pattern. Raises FileNotFoundError."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{folder} has {len(found)} files {pattern}, not one; remove the others, or run make wheel "
            "llama-wheel"
        )
    return found[0]


def environment(venv: Path, localq: Path, llama: Path) -> Path:
    """The Python of a new environment that holds what the lock says, and the two wheels."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wanted = venv / "wanted.txt"
    lines = [entry.text for entry in locked(LOCK.read_text(encoding="utf-8")) if entry.name != LLAMA]
    lines += [entry.text for entry in locked(TOOLS.read_text(encoding="utf-8")) if entry.name in FREEZERS]
    wanted.write_text("\n".join(lines) + "\n")
    subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(wanted)], check=True)
    subprocess.run([*pip, str(llama), str(localq)], check=True)
    return python


def freeze(python: Path, work: Path) -> Path:
    """PyInstaller's folder. The hash seed orders what it writes, the time stamps are the commit's.

    A Python that was compiled for a developer has symbols for a debugger in it: they are taken out.
    """
    variables = {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": str(source_date_epoch()), "PYTHONPATH": ""}
    command = [str(python), "-P", "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    places = ["--distpath", str(work / "dist"), "--workpath", str(work / "build")]
    subprocess.run(
        [*command, *places, str(ROOT / "packaging" / "standalone" / "localq.spec")],
        check=True,
        cwd=work,
        env=os.environ | variables,
        stdout=sys.stderr,
    )
    bundle = work / "dist" / "localq"
    own = [*bundle.glob("_internal/libpython*.so*"), *bundle.glob("_internal/python*/lib-dynload/*.so")]
    subprocess.run(["strip", "--strip-unneeded", *own], check=True)
    return bundle


def archive(dist: Path, tree: Path, top: Path) -> Path:
    """The .tar.gz: the tree below a prefix, and the script that installs and removes it."""
    shutil.copytree(tree, top, symlinks=True)
    for part in ("install.sh", "README"):
        text = (ROOT / "packaging" / "standalone" / part).read_text(encoding="utf-8")
        text = text.replace("@VERSION@", version()).replace("@GLIBC@", newest_glibc(tree))
        (top / part).write_text(text, encoding="utf-8")
    (top / "install.sh").chmod(0o755)
    settle(top, source_date_epoch())
    return tar_gz(top, dist / f"{name()}.tar.gz", source_date_epoch())


def site_packages(venv: Path) -> list[str]:
    """Where the environment's packages are."""
    return [str(path) for path in venv.glob("lib/python*/site-packages")]


def is_inside(package: Distribution) -> bool:
    """Whether an installed package is part of the folder, not a tool that made it."""
    return package.metadata["Name"].lower() not in FREEZERS


def components(installed: list[Distribution], libraries: list[Component]) -> list[Component]:
    """What the folder was made of: ``installed`` packages, Python, and the system's ``libraries``."""
    hashes = {entry.name: entry.hashes for entry in locked(LOCK.read_text(encoding="utf-8"))}
    python = platform.python_version()
    itself = Component("python", python, f"pkg:generic/python@{python}", "PSF-2.0")
    return [*packages(installed, hashes), itself, *libraries]


if __name__ == "__main__":
    raise SystemExit(main())
