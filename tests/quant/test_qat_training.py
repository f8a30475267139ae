"""Training in all three modes: it helps, it ends in the same bits however often it stops, it never harms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.formats.format import U8

torch = pytest.importorskip("torch")

from quant.qat import checkpoint  # noqa: E402
from quant.qat.blocks import Sample, Streams, gradients, train_blocks, train_layer  # noqa: E402
from quant.qat.data import order  # noqa: E402
from quant.qat.end_to_end import Lesson, held_out_divergence, train  # noqa: E402
from quant.qat.end_to_end import gradients as whole_gradients  # noqa: E402
from quant.qat.fake import FakeQuantizer  # noqa: E402
from quant.qat.options import Mode, TrainOptions  # noqa: E402
from quant.qat.progress import Check  # noqa: E402
from quant.qat.student import Student, Updates  # noqa: E402
from tests.quant.qat_kit import Pair, options, pair, random_chunks  # noqa: E402


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Pair]:
    torch.set_num_threads(1)
    with pair(tmp_path) as found:
        yield found


@pytest.fixture
def lesson(models: Pair, tmp_path: Path) -> Lesson:
    return models.lesson(tmp_path)


def bytes_of(student: Student) -> dict[str, bytes]:
    return dict(student.packed())


def codes_of(student: Student) -> dict[str, U8]:
    quantizers = student.quantizers.items()
    return {name: found.blocks().codes for name, found in quantizers if isinstance(found, FakeQuantizer)}


def folder_in(path: Path, name: str) -> Path:
    (path / name).mkdir(exist_ok=True)
    return path / name


def stop_at(count: int) -> Any:
    """A listener that raises at the ``count``-th call."""
    left = count

    def listen(*_: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Stopped

    return listen


class TestWhole:
    @pytest.mark.parametrize("mode", ["full", "scales"])
    def test_it_comes_nearer_to_the_original(
        self, mode: Mode, models: Pair, lesson: Lesson, tmp_path: Path
    ) -> None:
        student = models.student(codes=mode == "full")
        checks = train(student, lesson, options(mode, steps=40), folder_in(tmp_path, "run"))
        best = min(check.loss for check in checks)
        assert best < (0.9 if mode == "full" else 0.95) * checks[0].loss
        assert held_out_divergence(student, lesson) == best

    def test_with_scales_alone_no_code_changes(self, models: Pair, lesson: Lesson, tmp_path: Path) -> None:
        before = codes_of(models.student())
        student = models.student(codes=False)
        train(student, lesson, options("scales"), folder_in(tmp_path, "run"))
        for name, codes in codes_of(student).items():
            assert np.array_equal(codes, before[name])
        assert bytes_of(student) != bytes_of(models.student(codes=False))

    @pytest.mark.parametrize("average", [0.0, 0.9])
    @pytest.mark.parametrize("calls", [2, 5, 8, 11])
    def test_an_interrupted_run_ends_in_the_bits_of_one_that_was_not(
        self, calls: int, average: float, models: Pair, lesson: Lesson, tmp_path: Path
    ) -> None:
        wanted = options(average=average)
        whole = models.student()
        expected = train(whole, lesson, wanted, folder_in(tmp_path, "whole"))
        folder = folder_in(tmp_path, "parts")
        with pytest.raises(Stopped):
            train(models.student(), lesson, wanted, folder, on_step=stop_at(calls))
        student, heard = models.student(), list[Check]()
        assert train(student, lesson, wanted, folder, on_check=heard.append) == expected == heard
        assert bytes_of(student) == bytes_of(whole)
        assert all(torch.equal(value, whole.state()[name]) for name, value in student.state().items())

    def test_a_run_goes_on_with_its_checkpoint(self, models: Pair, lesson: Lesson, tmp_path: Path) -> None:
        """It does not only come to the same end because it begins anew."""
        folder = folder_in(tmp_path, "run")
        with pytest.raises(Stopped):
            train(models.student(), lesson, options(), folder, on_step=stop_at(8))
        steps: list[int] = []
        train(models.student(), lesson, options(), folder, on_step=lambda done, _total: steps.append(done))
        assert steps[0] == 6

    def test_a_torn_checkpoint_is_not_taken(self, models: Pair, lesson: Lesson, tmp_path: Path) -> None:
        folder = folder_in(tmp_path, "run")
        with pytest.raises(Stopped):
            train(models.student(), lesson, options(), folder, on_step=stop_at(8))
        path = folder / "checkpoint.pt"
        path.write_bytes(path.read_bytes()[:-100])
        assert checkpoint.load(path) is None
        path.write_bytes(b"")
        assert checkpoint.load(path) is None
        student, whole = models.student(), models.student()
        train(student, lesson, options(), folder)
        train(whole, lesson, options(), folder_in(tmp_path, "whole"))
        assert bytes_of(student) == bytes_of(whole)

    def test_a_checkpoint_of_other_options_is_not_taken(
        self, models: Pair, lesson: Lesson, tmp_path: Path
    ) -> None:
        folder = folder_in(tmp_path, "run")
        train(models.student(), lesson, options(), folder)
        steps: list[int] = []
        train(
            models.student(),
            lesson,
            options(seed=7),
            folder,
            on_step=lambda done, _total: steps.append(done),
        )
        assert steps[0] == 0

    def test_the_seed_decides_the_bytes(self, models: Pair, lesson: Lesson, tmp_path: Path) -> None:
        found = []
        for number, seed in enumerate((0, 0, 1)):
            student = models.student()
            train(student, lesson, options(seed=seed), folder_in(tmp_path, str(number)))
            found.append(bytes_of(student))
        assert found[0] == found[1]
        assert found[0] != found[2]

    def test_what_only_harms_is_not_kept_and_ends_early(
        self, models: Pair, lesson: Lesson, tmp_path: Path
    ) -> None:
        student = models.student()
        before = bytes_of(student)
        steps: list[int] = []
        checks = train(
            student,
            lesson,
            options(steps=40, checks=20, patience=3, latent_rate=5.0, scale_rate=5.0, plain_rate=5.0),
            folder_in(tmp_path, "run"),
            on_step=lambda done, _total: steps.append(done),
        )
        assert min(checks, key=lambda check: check.loss).step == 0
        assert bytes_of(student) == before
        assert len(steps) == 6  # three checks, each after two updates

    def test_its_gradients_are_the_slope_of_the_divergence(self, models: Pair, lesson: Lesson) -> None:
        """Norms have no rounding in the way: a finite difference of the whole model's loss shows them."""
        student = models.student()
        whole_gradients(student, lesson, [0, 1, 2])
        for name in ("blk.0.attn_norm.weight", "blk.1.ffn_norm.weight", "output_norm.weight"):
            tensor = student.plain[name]
            expected = tensor.grad[5].item()
            losses = []
            for step in (1e-2, -1e-2):
                other = models.student()
                with torch.no_grad():
                    other.plain[name][5] += step
                losses.append(whole_gradients(other, lesson, [0, 1, 2]))
            assert expected == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=0.05, abs=2e-5)


class TestBlocks:
    def run(self, models: Pair, folder: Path, wanted: TrainOptions, **listeners: Any) -> dict[str, bytes]:
        streams = Streams(folder, models.shape, random_chunks(16, 0), 4)
        found: dict[str, bytes] = {}
        for student in train_blocks(
            models.original, models.quantized, streams, wanted, torch.float32, **listeners
        ):
            found |= bytes_of(student)
        return found

    def test_each_layer_comes_nearer_to_the_originals(self, models: Pair, tmp_path: Path) -> None:
        heard: list[Check] = []
        folder = folder_in(tmp_path, "run")
        self.run(models, folder, options("blocks", steps=30), on_check=heard.append)
        for layer in range(models.shape.layers):
            losses = [check.loss for check in heard if check.layer == layer]
            assert min(losses) < 0.9 * losses[0]

    def test_one_layer_of_streams_lies_on_the_disk_at_a_time(self, models: Pair, tmp_path: Path) -> None:
        folder = folder_in(tmp_path, "run")
        most = 0

        def look(*_: Any) -> None:
            nonlocal most
            most = max(most, len(list(folder.glob("stream-*"))))

        self.run(models, folder, options("blocks", steps=4), on_step=look)
        assert most == 3
        assert len(list(folder.glob("stream-*"))) == 2

    @pytest.mark.parametrize("calls", [3, 12, 15])
    def test_an_interrupted_run_ends_in_the_bits_of_one_that_was_not(
        self, calls: int, models: Pair, tmp_path: Path
    ) -> None:
        wanted = options("blocks", steps=8)
        expected: list[Check] = []
        whole = self.run(models, folder_in(tmp_path, "whole"), wanted, on_check=expected.append)
        folder = folder_in(tmp_path, "parts")
        with pytest.raises(Stopped):
            self.run(models, folder, wanted, on_step=stop_at(calls))
        heard: list[Check] = []
        assert self.run(models, folder, wanted, on_check=heard.append) == whole
        assert heard == expected

    def test_a_layer_that_gets_no_better_stays(self, models: Pair) -> None:
        student = models.student()
        before = bytes_of(student)
        random = np.random.default_rng(0)
        read, wanted = (
            random.standard_normal((6, 8, models.shape.width)).astype(np.float32) for _ in range(2)
        )
        checks = train_layer(
            student,
            models.shape,
            0,
            Sample(read, wanted, 2),
            options("blocks", latent_rate=9.0, scale_rate=9.0, plain_rate=9.0),
            lambda done, total: None,
            lambda check: None,
        )
        assert min(checks, key=lambda check: check.loss).step == 0
        assert bytes_of(student) == before

    def test_its_gradients_are_the_slope_of_the_error(self, models: Pair) -> None:
        random = np.random.default_rng(0)
        read, wanted = (
            random.standard_normal((3, 8, models.shape.width)).astype(np.float32) for _ in range(2)
        )
        sample, name = Sample(read, wanted, 1), "blk.0.ffn_norm.weight"
        student = models.student()
        gradients(student, models.shape, 0, sample, [0, 1])
        losses = []
        for step in (1e-2, -1e-2):
            other = models.student()
            with torch.no_grad():
                other.plain[name][3] += step
            losses.append(gradients(other, models.shape, 0, sample, [0, 1]))
        slope = (losses[0] - losses[1]) / 2e-2
        assert student.plain[name].grad[3].item() == pytest.approx(slope, rel=0.02, abs=1e-4)


class TestOrder:
    def test_every_chunk_comes_once_before_any_comes_again(self) -> None:
        found = order(3, 7, 25)
        assert [sorted(found[start : start + 7].tolist()) for start in (0, 7, 14)] == [list(range(7))] * 3
        assert len(found) == 25
        assert found.tolist() != order(4, 7, 25).tolist()


class TestUpdates:
    def test_rates_rise_and_fall(self) -> None:
        wanted = options(steps=100, warm_up=0.1)
        shares = [wanted.rate(step) for step in range(100)]
        assert shares[0] == 0.1
        assert max(shares) == shares[9] == 1.0
        assert shares[9:] == sorted(shares[9:], reverse=True)
        assert shares[-1] < 0.01

    def test_the_average_follows_what_learns(self, models: Pair) -> None:
        student = models.student()
        updates = Updates(student, options(average=0.5))
        before = {name: value.clone() for name, value in student.state().items()}
        for _, tensor, _ in student.parameters():
            tensor.grad = torch.ones_like(tensor)
        updates.step(0)
        with updates.guessed(student) as guess:
            for name, value in guess.items():
                assert not torch.equal(value, before[name])
            average = {name: value.clone() for name, value in guess.items()}
        name = "output_norm.weight"
        kept = 1 / 10
        now = student.state()[name]
        assert torch.allclose(average[name], kept * before[name] + (1 - kept) * now)
        assert not torch.equal(average[name], now)
