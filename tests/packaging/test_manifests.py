"""Manifests of other package managers, rendered from stand-ins for the artefacts."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from kit.locked import LOCK, locked
from manifests.render import manifests

from app.version import VERSION

STEMS = ("localq-{}.tar.gz", "localq-{}-linux-x86_64.tar.gz", "localq-{}-windows-x86_64.zip")


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """Files of the artefacts' names."""
    for stem in STEMS:
        (tmp_path / stem.format(VERSION)).write_bytes(stem.encode())
    return tmp_path


@pytest.fixture
def rendered(dist: Path) -> dict[str, str]:
    return manifests(dist, locked(LOCK.read_text(encoding="utf-8")))


def test_each_names_its_artefact_with_version_and_hash(rendered: dict[str, str]) -> None:
    for name, stem in zip(
        ("homebrew/localq.rb", "aur/PKGBUILD", "winget/localq.localq.installer.yaml"), STEMS, strict=True
    ):
        digest = hashlib.sha256(stem.encode()).hexdigest()
        assert digest in rendered[name].lower()
        assert f"/{VERSION}/{stem.format(VERSION)}" in rendered[name]
        assert "://localq.invalid/" in rendered[name]


def test_what_has_no_artefact_has_no_manifest(tmp_path: Path) -> None:
    assert manifests(tmp_path, []) == {}


def test_addresses_are_those_of_the_place_that_publishes(dist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALQ_RELEASES", "https://files.example.invalid/localq/")
    texts = manifests(dist, []).values()
    assert sum(f"https://files.example.invalid/localq/{VERSION}/localq-" in text for text in texts) == 4


def test_the_formula_locks_every_requirement_of_a_mac(rendered: dict[str, str]) -> None:
    formula = rendered["homebrew/localq.rb"]
    assert "--require-hashes" in formula and "llama-cpp-python==" in formula
    assert "sys_platform == 'win32'" not in formula


@pytest.mark.skipif(shutil.which("ruby") is None, reason="needs ruby")
def test_the_formula_is_ruby(rendered: dict[str, str]) -> None:
    done = subprocess.run(
        ["ruby", "-wc"], input=rendered["homebrew/localq.rb"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "Syntax OK\n", "")


def test_the_package_script_is_a_shell_s_and_its_summary_says_the_same(
    rendered: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "PKGBUILD"
    script.write_text(rendered["aur/PKGBUILD"])
    show = 'set -eu; . "$1"; declare -F package > /dev/null; echo $pkgname $pkgver $arch $sha256sums $license'
    done = subprocess.run(
        ["bash", "-c", show, "bash", str(script)], capture_output=True, text=True, check=True
    ).stdout.split()
    summary = dict(
        line.strip().split(" = ", 1) for line in rendered["aur/.SRCINFO"].splitlines() if " = " in line
    )
    assert done == [summary[key] for key in ("pkgname", "pkgver", "arch", "sha256sums", "license")]


@pytest.mark.skipif(shutil.which("makepkg") is None, reason="needs makepkg")
def test_makepkg_prints_the_very_summary(rendered: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "PKGBUILD").write_text(rendered["aur/PKGBUILD"])
    tmp_path.chmod(0o777)
    for parent in list(tmp_path.parents)[:3]:
        if parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o5)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*user, "makepkg", "--printsrcinfo"],
        cwd=tmp_path,
        env=os.environ | {"PACMAN": "true"},  # Debian has makepkg without pacman
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == rendered["aur/.SRCINFO"].split()


def test_the_three_of_winget_agree(rendered: dict[str, str]) -> None:
    texts = {name: yaml.safe_load(text) for name, text in rendered.items() if name.startswith("winget/")}
    assert {text["ManifestType"] for text in texts.values()} == {"version", "installer", "defaultLocale"}
    assert {(text["PackageIdentifier"], text["PackageVersion"]) for text in texts.values()} == {
        ("localq.localq", VERSION)
    }
