"""Everything hostile is refused: by the right rule, soon, and in little memory."""

from __future__ import annotations

import os
import stat
import time
import tracemalloc
from pathlib import Path

import pytest

from runtime.errors import GgufError
from runtime.gguf import open_gguf
from tests.hostile import gguf_bytes as g
from tests.hostile.gguf import CASES
from tests.hostile.gguf_case import Hostile

CPU_SECONDS = 0.1
EXTRA_BYTES = 64 << 20


def refused(path: Path, rule: str) -> GgufError:
    with pytest.raises(GgufError) as caught:
        open_gguf(path)
    assert caught.value.rule == rule, caught.value
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_hostile_file_is_refused_by_its_rule_in_time(case: Hostile, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    attempts = []
    for _ in range(3):
        start = time.process_time()
        error = refused(path, case.rule)
        attempts.append(time.process_time() - start)
        if attempts[-1] <= CPU_SECONDS:
            break
    assert min(attempts) <= CPU_SECONDS
    assert str(path) in str(error) and error.reason.isprintable()


def test_no_hostile_file_takes_much_memory(tmp_path: Path) -> None:
    paths = [case.write(tmp_path) for case in CASES]
    tracemalloc.start()
    try:
        for path in paths:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(GgufError):
                open_gguf(path)
            assert tracemalloc.get_traced_memory()[1] - before <= EXTRA_BYTES, path.name
    finally:
        tracemalloc.stop()


def test_case_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("make", [g.model, g.bpe_model], ids=["sentencepiece", "byte-pair"])
def test_a_file_cut_at_any_of_its_first_4096_bytes_is_refused(make: object, tmp_path: Path) -> None:
    assert callable(make)
    whole = make()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[:4096])
    for length in range(min(4096, len(whole) - 1), -1, -1):
        os.truncate(path, length)
        refused(path, "truncated")


def test_a_last_tensor_needs_no_padding_but_all_of_its_bytes(tmp_path: Path) -> None:
    tensors = (g.Tensor("a", (32,)), g.Tensor("b", (5,)))
    path = tmp_path / "unpadded.gguf"
    path.write_bytes(g.build(g.llama_keys(), tensors, padded=False))
    size = path.stat().st_size
    assert open_gguf(path).file_size == size
    path.write_bytes(g.build(g.llama_keys(), tensors))
    assert path.stat().st_size == size + 12
    assert open_gguf(path).file_size == size + 12
    for wrong, rule in (
        (-1, "truncated"),
        (1, "trailing-bytes"),
        (11, "trailing-bytes"),
        (13, "trailing-bytes"),
    ):
        os.truncate(path, size + wrong)
        refused(path, rule)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe.gguf"
    os.mkfifo(path)
    assert "a pipe" in refused(path, "not-a-file").reason


def test_special_files_are_refused(tmp_path: Path) -> None:
    assert "a device" in refused(Path("/dev/zero"), "not-a-file").reason
    assert "a directory" in refused(tmp_path, "not-a-file").reason
    loop = tmp_path / "loop.gguf"
    loop.symlink_to(loop)
    refused(loop, "unreadable")
    refused(tmp_path / "absent.gguf", "not-found")
    refused(tmp_path / "absent\0.gguf", "unreadable")


def test_a_link_to_a_model_is_followed(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(g.model())
    link = tmp_path / "link.gguf"
    link.symlink_to("model.gguf")
    assert open_gguf(link).architecture == "llama"


def test_a_file_that_becomes_special_after_the_first_look_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(g.model())
    status = os.stat_result((stat.S_IFCHR, *[0] * 9))
    monkeypatch.setattr(os, "fstat", lambda fd: status)
    refused(path, "not-a-file")


def test_an_unreadable_file_is_refused_with_the_systems_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(g.model())

    def denied(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "Permission denied" in refused(path, "unreadable").reason
