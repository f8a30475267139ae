"""Build the Debian package from the self-contained folder.

usage: build.py DIST      takes DIST/tree, as packaging/standalone/build.py left it, and writes
                          localq_VERSION_ARCH.deb and its bill of materials there; needs: dpkg-deb
"""

from __future__ import annotations

import email.utils
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kit.archives import gzip_file, settle
from kit.elf import newest_glibc
from kit.project import HOMEPAGE, ROOT, SUMMARY, source_date_epoch, version
from kit.sbom import same_parts, save
from kit.tree import PREFIX

MAINTAINER = "the localq project <localq@localq.invalid>"
HERE = ROOT / "packaging" / "deb"
SCRIPTS = ("postinst", "prerm", "postrm")
DESCRIPTION = """\
 localq downloads a language model, quantizes it on this machine to the best
 quality that fits the machine's memory and processor, and then chats in the
 terminal or serves an endpoint that speaks OpenAI's and Anthropic's wires.
 Nothing leaves the machine. Python and llama.cpp are inside.
"""


def main() -> int:
    """Build; answers the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    dist = Path(sys.argv[1]).absolute()
    parts = dist / f"localq-{version()}-linux-{platform.machine()}.tar.gz.cdx.json"
    for needed in (dist / "tree" / "bin" / "localq", parts):
        if not needed.is_file():
            print(f"localq: {needed} is not there; run make standalone", file=sys.stderr)
            return 1
    with tempfile.TemporaryDirectory(prefix="localq-deb-") as folder:
        package = build(Path(folder) / "root", dist)
    print(package, save(package, same_parts(package, parts)), sep="\n")
    return 0


def build(root: Path, dist: Path) -> Path:
    """The package of the tree that is made in ``root``."""
    shutil.copytree(dist / "tree", root / "usr", symlinks=True)
    for path in (root / "usr" / "lib" / "systemd").rglob("*.service"):
        path.write_text(path.read_text(encoding="utf-8").replace(PREFIX, "/usr"), encoding="utf-8")
    add(root, "lib/systemd/system/localq.service", "localq.service")
    add(root, "etc/default/localq", "default")
    documents = root / "usr" / "share" / "doc" / "localq"
    (documents / "LICENSE").unlink()  # every Debian has the text, and the file says where
    add(root, "usr/share/doc/localq/copyright", "copyright")
    (documents / "changelog").rename(documents / "NEWS")
    (documents / "changelog").write_text(changelog(), encoding="utf-8")
    manual = (root / "usr" / "share" / "man" / "man1").iterdir()
    for path in [documents / "changelog", documents / "NEWS", *manual]:
        gzip_file(path)
    control = root / "DEBIAN"
    control.mkdir()
    for script in SCRIPTS:
        shutil.copy(HERE / script, control / script)
        (control / script).chmod(0o755)
    (control / "conffiles").write_text("/etc/default/localq\n")
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (control / "control").write_text(control_text(size, architecture, newest_glibc(dist / "tree")))
    settle(root, source_date_epoch())
    package = dist / f"localq_{version()}_{architecture}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z6", "--threads-max=1", "--build"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(source_date_epoch())}
    subprocess.run([*command, str(root), str(package)], check=True, env=environment, stdout=sys.stderr)
    return package


def add(root: Path, place: str, name: str) -> None:
    """The file ``name`` of this folder at ``place``."""
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / name, root / place)


def changelog() -> str:
    """Debian's own form of a changelog: one entry, which names the real one."""
    day = email.utils.formatdate(source_date_epoch())
    return f"""\
localq ({version()}) unstable; urgency=medium

  * The changes of this version are in NEWS.gz.

 -- {MAINTAINER}  {day}
"""


def control_text(size: int, architecture: str, glibc: str) -> str:
    """The control file; ``size`` in bytes."""
    return f"""\
Package: localq
Version: {version()}
Architecture: {architecture}
Maintainer: {MAINTAINER}
Installed-Size: {-(-size // 1024)}
Depends: libc6 (>= {glibc}), passwd
Section: science
Priority: optional
Homepage: {HOMEPAGE}
Description: {SUMMARY.removeprefix("the ")}
{DESCRIPTION}"""


if __name__ == "__main__":
    raise SystemExit(main())
