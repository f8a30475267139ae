"""What a self-contained folder was made of: Python packages, and libraries of the system that built it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path

from kit.sbom import Component

DEBIAN_DOCUMENTS = Path("/usr/share/doc")
_LEGAL = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|AUTHORS)[\w.-]*", re.IGNORECASE)
_CACHE_LINE = re.compile(r"\s*(\S+) \(.*x86-64.*\) => (\S+)")


def system_libraries(folder: Path) -> list[tuple[Component, Path | None]]:
    """The libraries at the top of ``folder`` as Debian packages, and each package's copyright file.

    A library that no package of this system has is a component of its own name, its version unknown. Python's
    own is left to the caller, who knows which Python it is.
    """
    paths = [path for path in sorted(folder.glob("*.so*")) if not path.is_symlink()]
    known = dict(_CACHE_LINE.findall(_answer(["ldconfig", "-p"])))
    found: dict[str, tuple[Component, Path | None]] = {}
    for path in paths:
        name = path.name
        if name.startswith("libpython"):
            continue
        system = Path(known.get(name, ""))
        package = _package(system) if system.is_file() and system.read_bytes() == path.read_bytes() else None
        if package is None:
            found[name] = Component(name, "unknown", f"pkg:generic/{name}"), None
            continue
        version = _answer(["dpkg-query", "-W", "-f", "${Version}", package]).strip()
        plain = package.partition(":")[0]
        component = Component(plain, version, f"pkg:deb/debian/{plain}@{version}")
        found[plain] = component, DEBIAN_DOCUMENTS / plain / "copyright"
    return list(found.values())


def _package(library: Path) -> str | None:
    """The Debian package that has the file ``library``, whichever side of a merged /usr it was listed on."""
    for path in (str(library), str(library.resolve())):
        for place in (path, path.removeprefix("/usr"), f"/usr{path}"):
            if owner := _answer(["dpkg-query", "-S", place]):
                return owner.rpartition(": ")[0].split(",")[0]
    return None


def _answer(command: list[str]) -> str:
    """What ``command`` prints; nothing if it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def notices(
    folder: Path,
    distributions: Iterable[Distribution],
    libraries: Iterable[tuple[Component, Path | None]],
) -> None:
    """The licence texts that the parts bring along, in ``folder``, one folder a part."""
    for distribution in distributions:
        name = distribution.metadata["Name"].lower().replace("_", "-")
        for entry in distribution.files or []:
            if ".dist-info" in entry.parts[0] and _LEGAL.fullmatch(entry.name):
                _copy(Path(str(distribution.locate_file(entry))), folder / name)
    for component, text in libraries:
        if text is not None and text.is_file():
            _copy(text, folder / component.name)


def _copy(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.name
    if not target.exists() or target.read_bytes() == source.read_bytes():
        shutil.copyfile(source, target)
    else:  # two texts of one name: the folder that the second came from tells them apart
        shutil.copyfile(source, folder / f"{source.parent.name}-{source.name}")
