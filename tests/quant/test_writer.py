from __future__ import annotations

import dataclasses
import errno
import math
import os
from pathlib import Path

import gguf
import numpy as np
import pytest

from quant.errors import NoRoom, OutputExists, QuantError
from quant.files.layout import FileLayout, Key, TensorEntry, encode_key, inherited_pairs, lay_out
from quant.files.writer import PartFile, require_room
from runtime.errors import GgufError
from runtime.gguf import open_gguf
from runtime.gguf.values import ValueType
from tests.app.tiny_model import write_tiny_model
from tests.quant.source_models import write_source


def copied(path: Path, *keys: Key) -> FileLayout:
    """The layout of a file with the tensors of ``path``."""
    header = open_gguf(path)
    entries = [TensorEntry(t.name, t.type.id, t.shape, t.nbytes) for t in header.tensors]
    return lay_out(inherited_pairs(header), keys, entries, header.alignment)


def fill(part: PartFile, source: Path) -> None:
    """Copies the tensors of ``source``."""
    header = open_gguf(source)
    data = source.read_bytes()
    for tensor, placed in zip(header.tensors, part.layout.tensors, strict=True):
        start = header.data_offset + tensor.offset
        part.write(placed.position, data[start : start + tensor.nbytes])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


class TestLayout:
    def test_every_key_of_the_source_is_taken_over_with_its_type(self, source: Path, tmp_path: Path) -> None:
        target = tmp_path / "out.gguf"
        with PartFile(tmp_path / "part", copied(source)) as part:
            fill(part, source)
            part.publish(target)
        before, after = gguf.GGUFReader(source), gguf.GGUFReader(target)
        kept = [key for key in before.fields if not key.startswith("GGUF.") and key != "general.file_type"]
        assert [key for key in after.fields if not key.startswith("GGUF.")] == kept
        for key in kept:
            assert after.fields[key].types == before.fields[key].types
            assert after.fields[key].contents() == before.fields[key].contents()
        for old, new in zip(before.tensors, after.tensors, strict=True):
            assert (new.name, new.tensor_type) == (old.name, old.tensor_type)
            assert np.array_equal(new.data, old.data)

    def test_the_same_plan_gives_the_same_bytes(self, source: Path) -> None:
        assert copied(source).header == copied(source).header

    def test_keys_of_every_type_are_read_back(self, source: Path, tmp_path: Path) -> None:
        keys = [
            Key("a.u8", ValueType.U8, 255),
            Key("a.i64", ValueType.I64, -(1 << 63)),
            Key("a.f64", ValueType.F64, 0.1),
            Key("a.yes", ValueType.BOOL, True),
            Key("a.text", ValueType.STRING, "ünï"),
            Key("a.texts", ValueType.STRING, ["a", "", "ü"], array=True),
            Key("a.floats", ValueType.F64, [1.5, -2.5], array=True),
        ]
        with PartFile(tmp_path / "part", copied(source, *keys)) as part:
            fill(part, source)
            part.check()
        fields = gguf.GGUFReader(tmp_path / "part").fields
        for key in keys:
            assert fields[key.name].contents() == key.value

    def test_keys_about_parts_and_of_an_earlier_certificate_are_dropped(self, tmp_path: Path) -> None:
        first = tmp_path / "first.gguf"
        plain = write_tiny_model(tmp_path / "plain.gguf")
        with PartFile(first, copied(plain, Key("localq.tool", ValueType.STRING, "0"))) as part:
            fill(part, plain)
        assert "localq.tool" in open_gguf(first).metadata
        pairs = b"".join(inherited_pairs(open_gguf(first)))
        assert b"localq." not in pairs
        assert b"tokenizer.chat_template" in pairs

    def test_a_source_that_was_replaced_is_noticed(self, source: Path) -> None:
        header = open_gguf(source)
        write_tiny_model(source)
        with pytest.raises(GgufError):
            inherited_pairs(header)

    def test_a_value_that_does_not_fit_its_type_is_an_error(self) -> None:
        with pytest.raises(TypeError):
            encode_key(Key("a", ValueType.STRING, 3))
        with pytest.raises(TypeError):
            encode_key(Key("a", ValueType.F64, 3.0, array=True))


class TestPartFile:
    def test_a_header_written_again_leaves_length_and_tensors(self, source: Path, tmp_path: Path) -> None:
        unknown = copied(source, Key("localq.kl_mean", ValueType.F64, math.nan))
        known = copied(source, Key("localq.kl_mean", ValueType.F64, 0.0317))
        with PartFile(tmp_path / "part", unknown) as part:
            fill(part, source)
            before = (tmp_path / "part").read_bytes()
            part.rewrite(known)
            after = (tmp_path / "part").read_bytes()
            part.check()
        assert len(before) == len(after)
        changed = [index for index in range(len(before)) if before[index] != after[index]]
        assert 1 <= len(changed) <= 8
        assert open_gguf(tmp_path / "part").metadata["localq.kl_mean"] == 0.0317

    def test_a_header_of_another_length_is_refused_and_nothing_is_written(
        self, source: Path, tmp_path: Path
    ) -> None:
        with PartFile(tmp_path / "part", copied(source)) as part:
            before = (tmp_path / "part").read_bytes()
            with pytest.raises(QuantError, match="bug in localq"):
                part.rewrite(copied(source, Key("localq.tool", ValueType.STRING, "0")))
        assert (tmp_path / "part").read_bytes() == before

    def test_a_header_with_the_tensors_elsewhere_is_refused(self, source: Path, tmp_path: Path) -> None:
        layout = copied(source)
        first, second, *rest = layout.tensors
        moved = dataclasses.replace(layout, tensors=(second, first, *rest))
        with PartFile(tmp_path / "part", layout) as part, pytest.raises(QuantError, match="bug in localq"):
            part.rewrite(moved)

    def test_what_is_there_is_taken_up_again(self, source: Path, tmp_path: Path) -> None:
        layout = copied(source)
        with PartFile(tmp_path / "part", layout) as part:
            fill(part, source)
        whole = (tmp_path / "part").read_bytes()
        with PartFile(tmp_path / "part", layout):
            pass
        assert (tmp_path / "part").read_bytes() == whole

    def test_a_part_of_another_size_is_begun_anew(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "part").write_bytes(b"x" * 10_000_000)
        layout = copied(source)
        with PartFile(tmp_path / "part", layout):
            pass
        data = (tmp_path / "part").read_bytes()
        assert data == layout.header + bytes(layout.size - len(layout.header))

    def test_padding_is_zeros_whatever_was_there(self, tmp_path: Path) -> None:
        layout = lay_out(
            [], [], [TensorEntry("a.weight", 0, (3,), 12), TensorEntry("b.weight", 0, (1,), 4)], 32
        )
        (tmp_path / "part").write_bytes(b"\xff" * layout.size)
        with PartFile(tmp_path / "part", layout) as part:
            for placed in layout.tensors:
                part.write(placed.position, bytes(placed.entry.nbytes))
            part.zero_padding()
        assert (tmp_path / "part").read_bytes() == layout.header + bytes(64)

    def test_an_unfinished_header_is_not_published(self, source: Path, tmp_path: Path) -> None:
        with PartFile(tmp_path / "part", copied(source)) as part:
            part.write(0, b"GGML")
            with pytest.raises(GgufError):
                part.check()


class TestPublishing:
    @pytest.fixture
    def part(self, source: Path, tmp_path: Path) -> Path:
        with PartFile(tmp_path / "part", copied(source)) as part:
            fill(part, source)
        return part.path

    def test_nothing_that_is_there_is_replaced_unless_asked(
        self, source: Path, part: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.gguf"
        out.write_bytes(b"mine")
        with PartFile(part, copied(source)) as file:
            with pytest.raises(OutputExists, match=r"out.gguf exists already"):
                file.publish(out)
            assert out.read_bytes() == b"mine"
            file.publish(out, replace=True)
        assert open_gguf(out).tensors
        assert not part.exists()

    @pytest.mark.parametrize("there", [False, True])
    def test_a_file_system_without_second_names_publishes_too(
        self, source: Path, part: Path, tmp_path: Path, there: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        out = tmp_path / "out.gguf"
        if there:
            out.write_bytes(b"mine")
        with PartFile(part, copied(source)) as file:
            if there:
                with pytest.raises(OutputExists):
                    file.publish(out)
                assert out.read_bytes() == b"mine"
            else:
                file.publish(out)
                assert open_gguf(out).tensors

    def test_a_part_that_a_kill_left_beside_its_publication_is_not_written_to(
        self, source: Path, part: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out.gguf").hardlink_to(part)
        before = part.read_bytes()
        with PartFile(part, copied(source, Key("localq.tool", ValueType.STRING, "x"))):
            pass
        assert (tmp_path / "out.gguf").read_bytes() == before


class TestDisk:
    def test_a_full_disk_is_told_before_anything_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(NoRoom, match=r"TiB needed, .* free") as caught:
            require_room(tmp_path, 1 << 62)
        assert caught.value.needed_bytes == 1 << 62
        assert 0 < caught.value.available_bytes < 1 << 62

    def test_what_is_free_is_what_an_ordinary_user_may_take(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        status = os.statvfs_result((8192, 4096, 1000, 100, 50, 10, 10, 10, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda _path: status)
        require_room(tmp_path, 50 * 4096)
        with pytest.raises(NoRoom) as caught:
            require_room(tmp_path, 50 * 4096 + 1)
        assert caught.value.available_bytes == 50 * 4096

    @pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
    def test_a_disk_that_fills_up_later_is_the_same_error(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, call, full)
        with pytest.raises(NoRoom):
            PartFile(tmp_path / "part", copied(source))

    def test_other_refusals_name_the_file(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

        layout = copied(source)
        with PartFile(tmp_path / "part", layout) as part:
            monkeypatch.setattr(os, "fsync", broken)
            with pytest.raises(QuantError, match=r"part .*cannot be written: Input/output error"):
                part.sync()
        assert not (tmp_path / "out.gguf").exists()

    def test_a_file_system_without_reservation_gets_a_file_of_the_size(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object) -> None:
            raise OSError(errno.ENOTSUP, "not supported")

        monkeypatch.setattr(os, "posix_fallocate", refused)
        layout = copied(source)
        with PartFile(tmp_path / "part", layout):
            assert (tmp_path / "part").stat().st_size == layout.size
