"""Reading safetensors: what is sound is found where it lies, what is hostile is refused fast and small."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from quant.convert.checkpoint import PICKLES, Checkpoint, is_checkpoint, repository_files, weight_files
from quant.convert.safetensors import read_header
from quant.errors import CannotConvert, CheckpointDamaged
from tests.hostile.safetensors import HostileFile, HostileIndex, hostile_files, hostile_indexes
from tests.quant.checkpoint_files import as_bytes, write_safetensors, write_shards

SECONDS, BYTES = 0.5, 64 << 20
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_tensors_are_found_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    stored = {
        "b": ("F32", (4, 3), as_bytes("F32", VALUES)),
        "a": ("BF16", (2,), as_bytes("BF16", VALUES[0, :2])),
    }
    write_safetensors(path, stored)
    found = read_header(path)
    assert list(found) == ["b", "a"]
    assert (found["b"].shape, found["b"].rows, found["b"].row_bytes) == ((4, 3), 4, 12)
    assert (found["a"].rows, found["a"].columns, found["a"].nbytes) == (2, 1, 4)
    with Checkpoint(tmp_path) as checkpoint:
        raw = checkpoint.read(found["b"], 1, 3)
        assert np.frombuffer(raw, np.float32).tolist() == VALUES[1:3].ravel().tolist()
        assert checkpoint.nbytes == 52


def test_a_header_may_be_padded_and_tensors_may_stand_in_any_order(tmp_path: Path) -> None:
    entries = {
        "second": {"dtype": "U8", "shape": [3], "data_offsets": [4, 7]},
        "first": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "__metadata__": {"format": "pt"},
    }
    raw = json.dumps(entries).encode() + b"   "
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(7))
    found = read_header(path)
    assert found["first"].position == 8 + len(raw)
    assert found["first"].rows == 1
    assert found["second"].position == 12 + len(raw)


@pytest.mark.parametrize("case", hostile_files(), ids=lambda case: case.id)
def test_a_hostile_file_is_refused_by_its_rule_fast_and_small(case: HostileFile, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(CheckpointDamaged) as caught:
        read_header(path)
    seconds, peak = time.process_time() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.rule == case.rule
    assert caught.value.path == path
    assert seconds < SECONDS * (10 if case.id == "H12-empty-tensors" else 1)  # tracing makes objects slow
    assert peak < BYTES


@pytest.mark.parametrize("case", hostile_indexes(), ids=lambda case: case.id)
def test_a_hostile_index_is_refused_by_its_rule(case: HostileIndex, tmp_path: Path) -> None:
    part = "model-00001-of-00001.safetensors"
    write_safetensors(tmp_path / part, {"a": ("F32", (4, 3), as_bytes("F32", VALUES))})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(case.contents(part)))
    with pytest.raises(CheckpointDamaged) as caught, Checkpoint(tmp_path):
        pass
    assert caught.value.rule == case.rule


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_regular_file_is_not_even_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(CheckpointDamaged) as caught:
        read_header(path)
    assert caught.value.rule == "not-a-file"


class TestRepository:
    def test_a_part_that_is_missing_is_named(self, tmp_path: Path) -> None:
        stored = {name: ("F32", (4, 3), as_bytes("F32", VALUES)) for name in "abc"}
        write_shards(tmp_path, stored, 3)
        (tmp_path / "model.safetensors.index.json").unlink()
        (tmp_path / "model-00002-of-00003.safetensors").unlink()
        with pytest.raises(CheckpointDamaged) as caught:
            weight_files(tmp_path)
        assert caught.value.path.name == "model-00002-of-00003.safetensors"
        assert caught.value.rule == "part-missing"

    def test_a_tensor_may_not_lie_in_two_parts(self, tmp_path: Path) -> None:
        for number in (1, 2):
            write_safetensors(
                tmp_path / f"model-0000{number}-of-00002.safetensors",
                {"a": ("F32", (4, 3), as_bytes("F32", VALUES))},
            )
        with pytest.raises(CheckpointDamaged) as caught, Checkpoint(tmp_path):
            pass
        assert caught.value.rule == "duplicate-tensor"

    def test_a_file_that_shrinks_while_it_is_read_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        write_safetensors(path, {"a": ("F32", (4, 3), as_bytes("F32", VALUES))})
        with Checkpoint(tmp_path) as checkpoint:
            os.truncate(path, path.stat().st_size - 4)
            with pytest.raises(CheckpointDamaged) as caught:
                checkpoint.read(checkpoint.tensors["a"], 0, 4)
        assert caught.value.rule == "shrunk"

    @pytest.mark.parametrize("suffix", PICKLES)
    def test_a_pickle_is_refused_unopened(self, suffix: str, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / f"pytorch_model{suffix}")  # whoever opened it would wait for ever
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(CannotConvert, match="never opens it"):
            weight_files(tmp_path)

    def test_an_adapters_weights_are_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_model.safetensors").touch()
        with pytest.raises(CannotConvert, match="no model that transformers saved"):
            weight_files(tmp_path)

    def test_a_folder_with_a_gguf_is_none_to_convert(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        assert is_checkpoint(tmp_path)
        (tmp_path / "model.GGUF").touch()
        assert not is_checkpoint(tmp_path)
        assert not is_checkpoint(tmp_path / "config.json")

    def test_what_decides_a_conversion_is_listed(self, tmp_path: Path) -> None:
        for name in ("config.json", "model.safetensors", "1_Pooling/config.json", "model.bin", "notes.pdf"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        names = [str(path.relative_to(tmp_path)) for path in repository_files(tmp_path)]
        assert names == ["config.json", "model.safetensors", "1_Pooling/config.json"]
