"""Probes in a run: made, judged and let go again; remembered over a kill; left out where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

import msgspec
import pytest

from quant.allocation.recipe import role_of
from quant.certificate.keys import read_certificate
from quant.errors import NoRoom, TextTooShort
from quant.evaluation.result import LEAST_CHUNKS, Evaluation, EvaluationText
from quant.files.work import PREFIX
from quant.pipeline import quantize
from quant.progress import Event, PhaseEvent, WarningEvent
from quant.request import QuantizeRequest
from quant.steps import Steps
from runtime.gguf import open_gguf
from tests.quant.source_models import write_source
from tests.quant.stand_ins import request, stand_ins

TEXTS = (EvaluationText("prose", "to probe"), EvaluationText("code", "y = 2"))
BITS = 5.0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


def wanted(source: Path, out: Path, **more: object) -> QuantizeRequest:
    return request(source, out, BITS, probing=TEXTS, **more)


def judging(nats: Callable[[QuantizeRequest, Path], float]) -> Steps:
    """Stand-ins whose judged files diverge by ``nats``."""
    steps = stand_ins()

    def evaluate(asked: QuantizeRequest, path: Path, report: Callable[[float], None]) -> Evaluation:
        return replace(steps.evaluate(asked, path, report), kl_mean=nats(asked, path))

    return replace(steps, evaluate=evaluate)


def encoded_roles(path: Path) -> set[str]:
    return {role_of(each.name) for each in open_gguf(path).tensors if each.type.name not in ("F16", "F32")}


def bits_of(path: Path, role: str) -> float:
    """Of the role's weights, in ggml's formats or localq's own."""
    model = open_gguf(path)
    sizes = [(each.name, each.nbytes, prod(each.shape)) for each in model.tensors]
    if model.packed:
        sizes += [(each.name, each.nbytes, prod(each.shape)) for each in model.packed.tensors]
    found = [(nbytes, weights) for name, nbytes, weights in sizes if role_of(name) == role]
    return 8 * sum(nbytes for nbytes, _ in found) / sum(weights for _, weights in found)


def test_each_probe_has_one_role_encoded_and_is_judged_on_the_probing_texts(
    source: Path, tmp_path: Path
) -> None:
    seen: list[tuple[set[str], tuple[EvaluationText, ...], int]] = []

    def note(asked: QuantizeRequest, path: Path) -> float:
        seen.append((encoded_roles(path), asked.evaluation, asked.evaluation_chunks))
        return 0.03

    quantize(wanted(source, tmp_path / "out.gguf"), steps=judging(note))
    *probes, last = seen
    assert [roles for roles, _, _ in probes] == [{role} for roles, _, _ in probes for role in roles]
    assert {"attn_q", "ffn_down", "token_embd"} <= {role for roles, _, _ in probes for role in roles}
    assert all((texts, chunks) == (TEXTS, LEAST_CHUNKS * 2) for _, texts, chunks in probes)
    assert last[1] != TEXTS
    assert not list(tmp_path.glob(f"{PREFIX}*")), "nothing of the probes is left"


@pytest.mark.parametrize("dear", ["ffn_down", "attn_q"])
def test_a_role_that_is_found_to_cost_more_gets_more_bits(source: Path, tmp_path: Path, dear: str) -> None:
    def bits(cost: float) -> float:
        out = tmp_path / f"{cost}.gguf"
        steps = judging(lambda _, file: cost if dear in encoded_roles(file) else 0.03)
        quantize(wanted(source, out), steps=steps)
        return bits_of(out, dear)

    assert bits(0.3) > bits(0.001) + 1


def test_what_was_measured_before_a_kill_is_not_measured_again(source: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    judged: list[set[str]] = []

    def run(out: Path, until: int | None) -> None:
        def note(_asked: QuantizeRequest, path: Path) -> float:
            if until is not None and len(judged) == until:
                raise Killed
            judged.append(encoded_roles(path))
            return 0.001 * len(encoded_roles(path).pop())

        quantize(wanted(source, out), steps=judging(note))

    run(tmp_path / "whole.gguf", None)
    whole = [*judged]
    judged.clear()
    with pytest.raises(Killed):
        run(tmp_path / "again.gguf", 3)
    run(tmp_path / "again.gguf", None)
    assert judged == whole
    assert tensors(tmp_path / "again.gguf") == tensors(tmp_path / "whole.gguf")


def test_what_was_found_stands_in_the_certificate_and_is_taken_from_a_file_to_reuse(
    source: Path, tmp_path: Path
) -> None:
    judged: list[Path] = []

    def note(_asked: QuantizeRequest, path: Path) -> float:
        judged.append(path)
        return 0.02 + 0.01 * len(encoded_roles(path))

    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    made = quantize(wanted(source, first), steps=judging(note)).certificate
    assert made.probed["attn_q"] == made.probed["token_embd"] == pytest.approx(0.03)
    assert read_certificate(open_gguf(first)) == msgspec.structs.replace(made, making=None)
    judged.clear()
    again = quantize(replace(wanted(source, second), reuse=first), steps=judging(note))
    assert len(judged) == 1, "the result alone"
    assert again.certificate.probed == made.probed
    assert again.certificate.data_sha256 == made.data_sha256


def tensors(path: Path) -> list[tuple[str, int]]:
    return [(each.name, each.type.id) for each in open_gguf(path).tensors]


@pytest.mark.parametrize(
    "error",
    [
        TextTooShort("prose has 7 tokens", step="evaluation", tokens=7, needed_tokens=1024),
        NoRoom(Path("/"), needed_bytes=2, available_bytes=1),
    ],
)
def test_where_probes_cannot_be_made_it_is_said_and_the_guess_counts(
    source: Path, tmp_path: Path, error: Exception
) -> None:
    def refuse(asked: QuantizeRequest, _path: Path) -> float:
        if asked.evaluation == TEXTS:
            raise error
        return 0.03

    events: list[Event] = []
    out, guessed = tmp_path / "out.gguf", tmp_path / "guessed.gguf"
    quantize(wanted(source, out), steps=judging(refuse), on_event=events.append)
    quantize(request(source, guessed, BITS), steps=stand_ins())
    (warning,) = [event.message for event in events if isinstance(event, WarningEvent)]
    assert warning.startswith("how much each matrix counts is guessed: ")
    assert str(error).splitlines()[0] in warning
    assert tensors(out) == tensors(guessed)


def test_progress_goes_up_to_the_last_probe(source: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    quantize(wanted(source, tmp_path / "out.gguf"), steps=judging(lambda *_: 0.03), on_event=events.append)
    shares = [e.done / e.total for e in events if isinstance(e, PhaseEvent) and e.phase == "probe"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
