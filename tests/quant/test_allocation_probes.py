"""Probes: one for each role, at formats whose loss can be measured; sensitivities follow what was found."""

from __future__ import annotations

import pytest

from quant.allocation.measure import Measured, TensorChoices
from quant.allocation.probes import MOST_CHANGE, NATS, choose, corrected
from quant.allocation.recipe import KEEP

ERRORS = {"q2_k": 0.1, "q4_k": 0.01, "q8_0": 0.0001}


def tensor(name: str, sensitivity: float, errors: dict[str, float] = ERRORS) -> TensorChoices:
    found = {KEEP: 0.0} | errors
    return TensorChoices(name=name, sensitivity=sensitivity, nbytes=dict.fromkeys(found, 1), errors=found)


def layers(role: str, sensitivity: float, count: int = 2) -> list[TensorChoices]:
    return [tensor(f"blk.{number}.{role}.weight", sensitivity) for number in range(count)]


def test_each_role_has_one_probe_with_all_its_matrices() -> None:
    measured = Measured(
        tensors=(*layers("attn_q", 1.0), *layers("ffn_up", 1.0), tensor("output.weight", 1.0))
    )
    found = choose(measured)
    assert [probe.role for probe in found] == ["attn_q", "ffn_up", "output"]
    assert set(found[1].formats) == {"blk.0.ffn_up.weight", "blk.1.ffn_up.weight"}


@pytest.mark.parametrize(("sensitivity", "fmt"), [(0.15, "q2_k"), (1.5, "q4_k"), (150.0, "q8_0")])
def test_its_format_is_the_one_that_should_cost_about_what_can_be_measured(
    sensitivity: float, fmt: str
) -> None:
    (found,) = choose(Measured(tensors=tuple(layers("attn_q", sensitivity))))
    assert set(found.formats.values()) == {fmt}
    assert found.foreseen == pytest.approx(2 * sensitivity * ERRORS[fmt])
    assert found.foreseen == pytest.approx(NATS)


def test_only_a_format_that_all_its_matrices_have_is_taken() -> None:
    odd = tensor("blk.1.ffn_down.weight", 1.5, {"q8_0": 0.0001})
    (found,) = choose(Measured(tensors=(tensor("blk.0.ffn_down.weight", 1.5), odd)))
    assert set(found.formats.values()) == {"q8_0"}


def test_lt_formats_change_no_probe() -> None:
    words = ERRORS | {"lt3": 0.02, "lt4": 0.0199}
    own, plain = (
        choose(Measured(tensors=(tensor("blk.0.ffn_up.weight", 1.5, errors),))) for errors in (words, ERRORS)
    )
    assert own == plain
    assert choose(Measured(tensors=(tensor("blk.0.ffn_up.weight", 1.5, {"lt3": 0.02}),))) == []


def test_a_role_that_loses_nothing_has_none() -> None:
    assert choose(Measured(tensors=(tensor("blk.0.attn_q.weight", 1.0, {}),))) == []
    assert choose(Measured(tensors=(tensor("blk.0.attn_q.weight", 0.0),))) == []


def test_sensitivities_of_a_role_become_what_was_found() -> None:
    measured = Measured(tensors=(*layers("attn_q", 1.5), *layers("ffn_up", 1.5)))
    probes = choose(measured)
    after = corrected(measured, probes, {"attn_q": probes[0].foreseen / 5, "ffn_up": probes[1].foreseen * 2})
    assert [round(each.sensitivity, 6) for each in after.tensors] == [0.3, 0.3, 3.0, 3.0]
    assert after.tensors[0].errors == measured.tensors[0].errors


def test_what_seems_to_cost_nothing_keeps_some_weight_and_noise_is_rounded_away() -> None:
    measured = Measured(tensors=tuple(layers("attn_q", 1.0)))
    probes = choose(measured)
    (nothing, _) = corrected(measured, probes, {"attn_q": 0.0}).tensors
    assert nothing.sensitivity == pytest.approx(1 / MOST_CHANGE, rel=0.02)
    one = corrected(measured, probes, {"attn_q": probes[0].foreseen * 0.5004})
    assert one == corrected(measured, probes, {"attn_q": probes[0].foreseen * 0.4998})
