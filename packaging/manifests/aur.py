"""A package for Arch Linux's user repository."""

from __future__ import annotations

from pathlib import Path

from kit.project import HOMEPAGE, SUMMARY, metadata, version
from kit.published import address, sha256


def aur(archive: Path) -> dict[str, str]:
    """A package of the self-contained archive: it is not compiled again."""
    license_name = metadata()["license"]
    fields = [
        ("pkgdesc", SUMMARY),
        ("pkgver", version()),
        ("pkgrel", "1"),
        ("url", HOMEPAGE),
        ("arch", "x86_64"),
        ("license", license_name),
        ("depends", "glibc"),
        ("provides", "localq"),
        ("conflicts", "localq"),
        ("options", "!strip"),
        ("source", address(archive)),
        ("sha256sums", sha256(archive)),
    ]
    lists = {"arch", "license", "depends", "provides", "conflicts", "options", "source", "sha256sums"}
    lines = [
        f"{key}=({_quoted(value)})" if key in lists else f"{key}={_quoted(value)}" for key, value in fields
    ]
    folder = archive.name.removesuffix(".tar.gz")
    build = f'''\
# Maintainer: the localq project
pkgname=localq-bin
{chr(10).join(lines)}

package() {{
    cd "{folder}"
    install -d "$pkgdir/usr"
    cp -dR bin lib share "$pkgdir/usr/"
    sed -i 's|@PREFIX@|/usr|g' "$pkgdir/usr/lib/systemd/user/localq.service"
    install -Dm644 share/doc/localq/LICENSE "$pkgdir/usr/share/licenses/localq-bin/LICENSE"
}}
'''
    info = [
        "pkgbase = localq-bin",
        *(f"\t{key} = {value}" for key, value in fields),
        "",
        "pkgname = localq-bin",
    ]
    return {"aur/PKGBUILD": build, "aur/.SRCINFO": "\n".join([*info, ""])}


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"
