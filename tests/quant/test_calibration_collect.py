"""Calibrating: what is collected, that it is taken up again, and that nothing half-made stays."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.calibration.collect import collect, run_observing
from quant.calibration.memory import observing_bytes
from quant.calibration.store import Statistics, open_statistics
from quant.calibration.text import CalibrationText
from quant.calibration.texts import builtin
from quant.errors import JobFailed, QuantError, TextTooShort
from runtime.engine.observation import Observed
from runtime.errors import GgufError, JobCancelled, WorkerDied
from runtime.gguf import open_model
from runtime.hardware import this_machine
from tests.runtime.watched_model import WatchedLlama

PROSE = CalibrationText("prose", "prose", "the cat sat on the mat. " * 60)
CODE = CalibrationText("code", "code", "for i in range(10): print(i)\n" * 60)
CHAT = CalibrationText(
    "chat",
    "dialogue",
    messages=({"role": "user", "content": "Why? " * 150}, {"role": "assistant", "content": "Because. " * 80}),
)
TEMPLATE = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"

Collect = Callable[..., Statistics]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WatchedLlama(layers=2, template=TEMPLATE).write(tmp_path_factory.mktemp("model") / "m.gguf")


@pytest.fixture(scope="module")
def gather_in(model: Path) -> Collect:
    def gather(parent: Path, **changes: Any) -> Statistics:
        options: dict[str, Any] = {
            "model": model,
            "texts": [PROSE, CODE, CHAT],
            "tokens": 384,
            "folder": parent / "statistics",
            "memory_bytes": 1 << 28,
            "threads": 1,
            "chunk_tokens": 64,
        }
        return collect(**(options | changes))

    return gather


@pytest.fixture
def gather(gather_in: Collect, tmp_path: Path) -> Collect:
    return functools.partial(gather_in, tmp_path)


@pytest.fixture(scope="module")
def made_once(gather_in: Collect, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gather_in(tmp_path_factory.mktemp("once")).folder


@pytest.fixture
def first(made_once: Path, tmp_path: Path) -> Statistics:
    """The statistics of an earlier call, where the next one looks for them."""
    return open_statistics(shutil.copytree(made_once, tmp_path / "statistics"))


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_every_matrix_has_statistics_of_its_input(gather: Collect, tmp_path: Path) -> None:
    fractions: list[float] = []
    found = gather(on_progress=fractions.append)
    assert len(found) == 7 * 2 + 1
    assert found.domain_tokens == {"prose": 128, "code": 128, "dialogue": 128}
    for name, statistics in found.items():
        assert statistics.tokens.tolist() == [384], name
        gram = statistics.gram
        assert gram is not None
        assert gram.shape == (1, 1, statistics.columns, statistics.columns)
        assert statistics.block == statistics.columns
        np.testing.assert_array_equal(gram[0, 0], gram[0, 0].T)
        np.testing.assert_allclose(gram[0, 0].diagonal(), statistics.mean_square[0], rtol=3e-6)
    np.testing.assert_array_equal(
        found["blk.1.attn_q.weight"].mean_square, found["blk.1.attn_v.weight"].mean_square
    )
    assert found.get("blk.9.attn_q.weight") is None
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert left(tmp_path) == ["statistics"]


def test_a_second_call_takes_what_is_there(gather: Collect, first: Statistics, tmp_path: Path) -> None:
    index = (tmp_path / "statistics" / "index.json").stat()
    again = gather(threads=2)  # which decides nothing
    assert again.digest == first.digest
    assert (tmp_path / "statistics" / "index.json").stat().st_mtime_ns == index.st_mtime_ns


def test_the_same_call_gives_the_same_bytes(gather: Collect, made_once: Path, tmp_path: Path) -> None:
    assert gather(threads=2).digest == open_statistics(made_once).digest
    for file in made_once.glob("*.f32"):
        assert file.read_bytes() == (tmp_path / "statistics" / file.name).read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"texts": [PROSE, CODE]},
        {"texts": [dataclasses.replace(PROSE, text=PROSE.text.replace("mat", "hat")), CODE, CHAT]},
        {"seed": 3},
        {"tokens": 192},
        {"model_sha256": ["0" * 64]},
    ],
    ids=["texts", "a word", "seed", "tokens", "model"],
)
def test_other_texts_models_or_settings_are_calibrated_anew(
    changes: dict[str, Any], gather: Collect, first: Statistics, tmp_path: Path
) -> None:
    assert gather(**changes).digest != first.digest
    assert left(tmp_path) == ["statistics"]


def test_damaged_statistics_are_not_taken(gather: Collect, first: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "statistics" / first.index.inputs[0].file
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert gather().digest == first.digest
    assert path.read_bytes() != bytes(data)


def test_conversations_are_read_in_the_models_template(gather: Collect, tmp_path: Path) -> None:
    found = gather(texts=[CHAT], folder=tmp_path / "template")
    assert len(found.index.template_sha256) == 64
    bare = WatchedLlama(layers=2).write(tmp_path / "bare.gguf")
    plain = gather(model=bare, texts=[CHAT], folder=tmp_path / "plain")
    assert plain.index.template_sha256 == ""
    assert plain.digest != found.digest


def test_a_short_text_is_refused_with_both_numbers_and_leaves_nothing(
    gather: Collect, tmp_path: Path
) -> None:
    with pytest.raises(TextTooShort, match="'prose'") as short:
        gather(tokens=1 << 20)
    assert (short.value.tokens, short.value.needed_tokens) == (1440 - 120, 5462 * 64)
    assert left(tmp_path) == []


def test_no_text_is_refused(gather: Collect) -> None:
    with pytest.raises(QuantError, match="at least one text"):
        gather(texts=[])


def test_stopping_leaves_nothing(gather: Collect, tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(JobCancelled):
        gather(stop=stop, on_progress=lambda fraction: stop.set())
    assert left(tmp_path) == []


def test_what_was_there_survives_a_failure(gather: Collect, first: Statistics, tmp_path: Path) -> None:
    with pytest.raises(TextTooShort):
        gather(tokens=1 << 20)
    assert left(tmp_path) == ["statistics"]
    assert gather().digest == first.digest


def test_a_file_that_is_no_model_is_refused(gather: Collect, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"no model")
    with pytest.raises(GgufError):
        gather(model=other)


def test_a_model_that_cannot_be_loaded_is_a_failed_job_with_its_log(gather: Collect, tmp_path: Path) -> None:
    wanting = WatchedLlama(layers=1)
    del wanting.weights["blk.0.ffn_up"]
    with pytest.raises(JobFailed, match="could not load") as failed:
        gather(model=wanting.write(tmp_path / "wanting.gguf"))
    assert "blk.0.ffn_up.weight" in failed.value.log


def test_the_death_of_the_process_is_a_failed_job_with_its_last_words(
    gather: Collect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise WorkerDied("the worker process was ended by SIGKILL", returncode=-9, log="last words")

    monkeypatch.setattr("quant.calibration.collect.run_job", die)
    with pytest.raises(JobFailed, match="SIGKILL") as failed:
        gather()
    assert failed.value.log == "last words"
    assert left(tmp_path) == []


def test_text_that_is_no_unicode_is_refused(gather: Collect) -> None:
    with pytest.raises(JobFailed, match="lone surrogate"):
        gather(texts=[CalibrationText("odd", "odd", "\ud800" * 1000)])


def test_the_memory_that_is_planned_is_enough_and_not_twice_as_much(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Observed] = []

    def remembered(*given: Any) -> Observed:
        seen.append(run_observing(*given))
        return seen[-1]

    monkeypatch.setattr("quant.calibration.collect.run_observing", remembered)
    collect(
        tiny_path,
        builtin("calibration"),
        tokens=4096,
        folder=tmp_path / "s",
        memory_bytes=1 << 30,
        threads=2,
    )
    sums = sum(len(one.tokens) * one.columns * (8 + 4 * one.block) for one in seen[0].inputs)
    model = open_model(tiny_path)
    bound = observing_bytes(model, chunk_tokens=512, threads=2, sum_bytes=sums, machine=this_machine())
    assert seen[0].peak_anonymous_bytes < bound < 2 * seen[0].peak_anonymous_bytes
