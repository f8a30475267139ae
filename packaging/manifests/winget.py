"""Manifests for Windows' package manager, for the day that there is a build for Windows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from kit.project import HOMEPAGE, SUMMARY, metadata, version
from kit.published import address, sha256

IDENTIFIER = "localq.localq"
SCHEMA = "1.6.0"


def winget(archive: Path) -> dict[str, str]:
    """The three manifests of a .zip that holds the self-contained folder."""
    installer = {
        "InstallerType": "zip",
        "NestedInstallerType": "portable",
        "NestedInstallerFiles": [
            {
                "RelativeFilePath": f"{archive.name.removesuffix('.zip')}\\lib\\localq\\localq.exe",
                "PortableCommandAlias": "localq",
            }
        ],
        "Installers": [
            {
                "Architecture": "x64",
                "InstallerUrl": address(archive),
                "InstallerSha256": sha256(archive).upper(),
            }
        ],
    }
    locale = {
        "PackageLocale": "en-US",
        "Publisher": "the localq project",
        "PackageName": "localq",
        "PackageUrl": HOMEPAGE,
        "License": metadata()["license"],
        "ShortDescription": SUMMARY,
        "Moniker": "localq",
    }
    folder = f"winget/{IDENTIFIER}"
    return {
        f"{folder}.yaml": _manifest("version", {"DefaultLocale": "en-US"}),
        f"{folder}.installer.yaml": _manifest("installer", installer),
        f"{folder}.locale.en-US.yaml": _manifest("defaultLocale", locale),
    }


def _manifest(kind: str, fields: Mapping[str, object]) -> str:
    head = {"PackageIdentifier": IDENTIFIER, "PackageVersion": version()}
    tail = {"ManifestType": kind, "ManifestVersion": SCHEMA}
    text: str = yaml.safe_dump({**head, **fields, **tail}, sort_keys=False, allow_unicode=True)
    return text
