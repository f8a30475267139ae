"""What the builds share: archives that depend on their content only, the lock, bills of materials."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from kit.archives import settle, tar_gz
from kit.elf import elf_files, newest_glibc
from kit.locked import LOCK, TOOLS, Locked, locked
from kit.parts import notices
from kit.project import metadata, pinned, source_date_epoch, version
from kit.sbom import Component, document, of_lock, packages, same_parts, write
from kit.zips import add_to_wheel, read
from kit.zips import write as write_zip
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.version import VERSION

WHEN = 1_700_000_000


def small_wheel(path: Path, order: int) -> Path:
    """A wheel whose entries come in an order of their own, with times of their own."""
    files = {
        "p/__init__.py": b"x = 1\n",
        "p/lib.so": b"\x7fELF",
        "lib/copy.so": b"again",
        "p-1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: p\nVersion: 1\n",
        "p-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n",
        "p-1.dist-info/RECORD": b"",
    }
    names = list(files)
    random.Random(order).shuffle(names)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name, (2000 + order, 1, 1, 0, 0, 0)), files[name])
    return path


class TestWheels:
    def test_the_same_content_gives_the_same_bytes_in_whatever_order_it_came(self, tmp_path: Path) -> None:
        results = []
        for order in (1, 2):
            source = small_wheel(tmp_path / f"{order}.whl", order)
            write_zip(tmp_path / "out.whl", read(source), WHEN)
            results.append((tmp_path / "out.whl").read_bytes())
        assert results[0] == results[1]
        write_zip(tmp_path / "later.whl", read(source), WHEN + 3600)
        assert (tmp_path / "later.whl").read_bytes() != results[0]

    def test_a_wheel_with_files_added_is_whole_to_pip(self, tmp_path: Path) -> None:
        source = small_wheel(tmp_path / "source.whl", 1)
        target = tmp_path / "p-1-py3-none-any.whl"
        add_to_wheel(source, target, {"p/more.so.0": b"more"}, timestamp=WHEN, drop=("lib/",))
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--target", str(tmp_path / "to")]
        subprocess.run([*command, str(target)], check=True, capture_output=True)
        assert (tmp_path / "to" / "p" / "more.so.0").read_bytes() == b"more"
        assert not (tmp_path / "to" / "lib").exists()
        with zipfile.ZipFile(target) as archive:
            assert archive.namelist()[-1] == "p-1.dist-info/RECORD"
            assert archive.getinfo("p/more.so.0").external_attr >> 16 == 0o755


class TestArchives:
    def test_owner_order_and_time_of_files_do_not_show(self, tmp_path: Path) -> None:
        results = []
        for names in (("b", "a"), ("a", "b")):
            folder = tmp_path / "x" / "top"
            folder.mkdir(parents=True)
            for name in names:
                (folder / name).write_text(name)
            (folder / "run").write_text("#!/bin/sh\n")
            (folder / "run").chmod(0o700)
            (folder / "link").symlink_to("a")
            settle(folder, WHEN)
            results.append(tar_gz(folder, tmp_path / "out.tar.gz", WHEN).read_bytes())
            folder.parent.rename(tmp_path / names[0])
        assert results[0] == results[1]
        with tarfile.open(tmp_path / "out.tar.gz") as archive:
            entries = {entry.name: entry for entry in archive.getmembers()}
        assert entries["top/run"].mode == 0o755 and entries["top/a"].mode == 0o644
        assert entries["top/link"].linkname == "a"
        assert {(entry.uid, entry.uname, entry.mtime) for entry in entries.values()} == {(0, "root", WHEN)}


class TestElf:
    def test_the_c_library_is_that_of_the_newest_symbol(self, tmp_path: Path) -> None:
        (tmp_path / "a.so").write_bytes(b"\x7fELF..\0GLIBC_2.4\0GLIBC_2.34\0..")
        (tmp_path / "b.so").write_bytes(b"\x7fELF..\0GLIBC_2.2.5\0GLIBC_2.9\0..")
        (tmp_path / "text").write_bytes(b"\0GLIBC_2.99\0")
        assert newest_glibc(tmp_path) == "2.34"
        assert [path.name for path in elf_files(tmp_path)] == ["a.so", "b.so"]

    def test_our_own_libraries_name_none_newer_than_this_machine_s(self) -> None:
        found = newest_glibc(Path(__file__).parents[2] / "runtime")
        here = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else None
        if here is not None:
            ours, newest = ([int(part) for part in text.split(".")] for text in (found, here.split()[1]))
            assert ours <= newest


class TestLock:
    def test_all_that_is_needed_is_locked_with_hashes_and_no_address(self) -> None:
        for path in (LOCK, TOOLS):
            text = path.read_text(encoding="utf-8")
            assert locked(text)
            assert "://" not in text and "--index" not in text and "@ " not in text
        names = {entry.name for entry in locked(LOCK.read_text(encoding="utf-8"))}
        assert {"click", "numpy", "textual", "llama-cpp-python", "huggingface-hub"} <= names

    def test_the_lock_is_that_of_pyproject(self) -> None:
        entries = {entry.name: entry for entry in locked(LOCK.read_text(encoding="utf-8"))}
        assert f"llama-cpp-python=={entries['llama-cpp-python'].version}" == pinned("llama-cpp-python")

    @pytest.mark.parametrize("path", [LOCK, TOOLS], ids=lambda path: path.stem)
    def test_it_has_every_requirement_in_a_version_that_is_allowed(self, path: Path) -> None:
        entries = {entry.name: entry for entry in locked(path.read_text(encoding="utf-8"))}
        extras = metadata()["optional-dependencies"]
        wanted = metadata()["dependencies"] if path == LOCK else extras["package"]
        assert wanted
        for line in wanted:
            asked = Requirement(line)
            if asked.marker is None or asked.marker.evaluate():
                assert asked.specifier.contains(entries[canonicalize_name(asked.name)].version), line

    @pytest.mark.parametrize(
        "line", ["click==8.2", "click>=8 --hash=sha256:" + "0" * 64, "-i https://x.invalid"]
    )
    def test_a_line_without_version_or_hash_is_refused(self, line: str) -> None:
        with pytest.raises(ValueError, match="run make lock"):
            locked(f"{line}\n")

    def test_what_is_read_is_written_again(self) -> None:
        entry = Locked("a", "1", "sys_platform == 'win32'", ("sha256:" + "0" * 64, "sha256:" + "1" * 64))
        assert locked(entry.text) == [entry]


class TestBills:
    def test_a_bill_is_of_its_artefact_and_names_every_part_once(self, tmp_path: Path) -> None:
        artefact = tmp_path / "localq.whl"
        artefact.write_bytes(b"wheel")
        parts = of_lock([Locked("a", "1", "", ("sha256:" + "0" * 64,))])
        parts += packages(distributions(), {})
        bill = json.loads(write(artefact, parts).read_text())
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
        assert bill["metadata"]["component"]["version"] == VERSION
        references = [part["bom-ref"] for part in bill["components"]]
        assert len(references) == len(set(references)) and "pkg:pypi/a@1" in references
        assert not any(part["name"] == "localq" for part in bill["components"])
        assert bill["dependencies"][0]["dependsOn"] == sorted(references)

    def test_a_bill_is_valid_to_the_specification_and_one_without_a_name_is_not(self, tmp_path: Path) -> None:
        artefact = tmp_path / "localq.whl"
        artefact.write_bytes(b"wheel")
        valid = JsonStrictValidator(SchemaVersion.V1_6)
        bill = write(artefact, packages(distributions(), {})).read_text()
        assert valid.validate_str(bill) is None
        assert valid.validate_str(bill.replace('"name": "localq"', '"nome": "localq"')) is not None

    def test_the_same_artefact_has_the_same_bill_and_another_has_another(self, tmp_path: Path) -> None:
        artefact = tmp_path / "a"
        artefact.write_bytes(b"1")
        part = Component("x", "1", "pkg:generic/x@1")
        one = document(artefact, [part])
        assert document(artefact, [part]) == one
        assert document(artefact, [replace(part, version="2")]) != one
        artefact.write_bytes(b"2")
        assert document(artefact, [part])["serialNumber"] != one["serialNumber"]

    def test_two_artefacts_of_the_same_parts_have_bills_of_their_own(self, tmp_path: Path) -> None:
        archive, package = tmp_path / "a.tar.gz", tmp_path / "a.deb"
        archive.write_bytes(b"1")
        package.write_bytes(b"2")
        parts = [Component("x", "1", "pkg:generic/x@1")]
        assert same_parts(package, write(archive, parts)) == document(package, parts)

    def test_licence_texts_come_with_the_parts(self, tmp_path: Path) -> None:
        notices(tmp_path, [distribution(name) for name in ("click", "rich")], [])
        assert {path.name for path in tmp_path.iterdir()} == {"click", "rich"}
        assert any("BSD" in path.read_text() or "Redistribution" in path.read_text()
                   for path in (tmp_path / "click").iterdir())  # fmt: skip


def test_the_time_of_an_artefact_is_the_commit_s_or_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    assert source_date_epoch() == 5
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert source_date_epoch() > WHEN
    assert version() == VERSION
