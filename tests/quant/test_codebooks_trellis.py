"""Training of the trellis' tables: starts, Lloyd's algorithm, annealing, integers."""

from __future__ import annotations

import numpy as np

from quant.codebooks.trellis import Sample, anneal, error_of, start, train
from quant.formats.lt import LT2, LT3
from quant.formats.lt_tables import ERROR, TABLES


def test_rounds_of_lloyds_algorithm_and_annealing_lower_the_error() -> None:
    sample = Sample.random(LT2, 4, 4096, 1)
    rng = np.random.default_rng(0)
    values = start(LT2, 4, rng)
    settled = sample.settled(values, 5)
    annealed = anneal(sample, settled, rng, 60)
    errors = [sample.error(some) for some in (values, settled, annealed)]
    assert errors[0] > errors[1] > errors[2]


def test_a_short_training_comes_near_the_table_that_there_is_and_gives_the_same_again() -> None:
    table = train(LT2, 4, seed=3, proposals=60)
    assert max(map(abs, table.values)) <= 64
    assert error_of(Sample.random(LT2, 4, 1 << 16, 9), table) < 1.05 * ERROR[2, 4]
    assert train(LT2, 4, seed=3, proposals=60) == table


def test_training_that_goes_on_from_a_table_does_not_lose_it() -> None:
    judge = Sample.random(LT3, 6, 1 << 16, 9)
    table = train(LT3, 6, seed=3, proposals=20, known=TABLES[3, 6])
    assert error_of(judge, table) < 1.01 * error_of(judge, TABLES[3, 6])


def test_states_without_weights_keep_their_value() -> None:
    sample = Sample.random(LT2, 4, 1024, 1)
    values = start(LT2, 4, np.random.default_rng(2))
    values[5] = 1000.0
    assert sample.means(values)[5] == 1000.0
