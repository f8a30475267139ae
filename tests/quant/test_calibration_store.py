"""Statistics on disk: whole or not there, and never those of something else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from quant.calibration.store import (
    VERSION,
    Index,
    Settings,
    Statistics,
    TextRecord,
    check_statistics,
    open_statistics,
    partial_folder,
    publish,
    reusable,
)
from quant.errors import QuantError
from runtime.engine.observation import ObservedInput

SETTINGS = Settings(
    model_sha256=("ab",),
    texts=(TextRecord("t", "prose", "cd"),),
    tokens=10,
    chunk_tokens=5,
    seed=0,
    hessian=True,
    expert_hessian=True,
    memory_bytes=1,
    engine="0",
)


def write(folder: Path, settings: Settings = SETTINGS, seed: int = 0) -> Statistics:
    """One input with two experts and blocks of 4, and one without Hessians."""
    partial = partial_folder(folder)
    dice = np.random.default_rng(seed)
    inputs = []
    for file, tensors, columns, block, tokens in (
        ("0000.f32", ("a", "b"), 8, 4, (3, 4)),
        ("0001.f32", ("c",), 6, 0, (7,)),
    ):
        data = dice.random(len(tokens) * columns * (1 + block), np.float32).tobytes()
        (partial / file).write_bytes(data)
        inputs.append(
            ObservedInput(
                file=file,
                sha256=hashlib.sha256(data).hexdigest(),
                tensors=tensors,
                columns=columns,
                block=block,
                batches=2,
                tokens=tokens,
            )
        )
    index = Index(
        version=VERSION,
        settings=settings,
        inputs=tuple(inputs),
        unseen=("d",),
        tokens=10,
        domain_tokens={"prose": 10},
        template_sha256="",
        passes=1,
        seconds=0.5,
    )
    return publish(partial, folder, index)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = write(tmp_path / "s")
    found = open_statistics(tmp_path / "s")
    assert list(found) == ["a", "b", "c"]
    assert found.digest == written.digest
    values = np.fromfile(tmp_path / "s" / "0000.f32", "<f4")
    experts = found["b"]
    assert (experts.columns, experts.block, experts.tokens.tolist()) == (8, 4, [3, 4])
    np.testing.assert_array_equal(experts.mean_square, values[:16].reshape(2, 8))
    assert experts.gram is not None
    np.testing.assert_array_equal(experts.gram, values[16:].reshape(2, 2, 4, 4))
    assert (found["c"].gram, found["c"].block) == (None, None)
    assert found.get("d") is None
    check_statistics(found)


def test_the_arrays_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    found = write(tmp_path / "s")["a"]
    with pytest.raises(ValueError, match="read-only"):
        found.mean_square[0, 0] = 1


def test_the_digest_is_of_all_that_was_measured(tmp_path: Path) -> None:
    digests = {
        write(tmp_path / "s").digest,
        write(tmp_path / "s", seed=1).digest,
        write(tmp_path / "s", msgspec.structs.replace(SETTINGS, model_sha256=("ef",))).digest,
        write(tmp_path / "s", msgspec.structs.replace(SETTINGS, texts=())).digest,
    }
    assert len(digests) == 4
    assert write(tmp_path / "s").digest in digests


@pytest.mark.parametrize(
    "field", ["model_sha256", "texts", "tokens", "chunk_tokens", "seed", "hessian", "engine"]
)
def test_statistics_of_other_settings_are_not_reused(field: str, tmp_path: Path) -> None:
    write(tmp_path / "s")
    assert reusable(tmp_path / "s", SETTINGS) is not None
    other = {"model_sha256": ("x",), "texts": (), "hessian": False, "engine": "1"}.get(field, 99)
    assert reusable(tmp_path / "s", msgspec.structs.replace(SETTINGS, **{field: other})) is None


def test_a_file_of_another_length_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s")
    with (tmp_path / "s" / "0001.f32").open("r+b") as file:
        file.truncate(20)
    with pytest.raises(QuantError, match="has 20 bytes instead of 24"):
        open_statistics(tmp_path / "s")
    assert reusable(tmp_path / "s", SETTINGS) is None


def test_a_changed_bit_is_found(tmp_path: Path) -> None:
    found = write(tmp_path / "s")
    path = tmp_path / "s" / "0000.f32"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(QuantError, match="damaged"):
        check_statistics(found)
    assert reusable(tmp_path / "s", SETTINGS) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1,2]"])
def test_a_damaged_index_is_refused(content: bytes, tmp_path: Path) -> None:
    write(tmp_path / "s")
    (tmp_path / "s" / "index.json").write_bytes(content)
    with pytest.raises(QuantError, match="calibrate again"):
        open_statistics(tmp_path / "s")


def test_an_index_of_another_version_or_with_paths_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "s")
    path = tmp_path / "s" / "index.json"
    index = json.loads(path.read_bytes())
    path.write_text(json.dumps(index | {"version": VERSION + 1}))
    with pytest.raises(QuantError, match="version"):
        open_statistics(tmp_path / "s")
    index["inputs"][0]["file"] = "../s/0000.f32"
    path.write_text(json.dumps(index))
    with pytest.raises(QuantError):
        open_statistics(tmp_path / "s")


def test_there_is_nothing_before_it_is_published(tmp_path: Path) -> None:
    partial = partial_folder(tmp_path / "s")
    (partial / "rest").write_bytes(b"of a run that was killed")
    assert reusable(tmp_path / "s", SETTINGS) is None
    assert list(partial_folder(tmp_path / "s").iterdir()) == []
