"""Drawing chunks out of domains: even, spread, without overlap, and refused when a text is too short."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engine.chunks import draw_chunks, shares
from runtime.errors import TooFewTokens


@given(st.integers(1, 20), st.integers(0, 500))
def test_shares_add_up_and_differ_by_one_at_most(domains: int, chunks: int) -> None:
    found = shares(domains, chunks)
    assert sum(found) == chunks
    assert max(found) - min(found) <= 1


@given(
    st.lists(st.integers(40, 400), min_size=1, max_size=4),
    st.integers(1, 8),
    st.integers(2, 20),
    st.booleans(),
    st.integers(0, 1 << 40),
)
def test_chunks_are_pieces_of_their_streams_that_do_not_overlap(
    lengths: list[int], chunks: int, chunk_tokens: int, first: bool, seed: int
) -> None:
    streams = {
        f"domain {index}": np.arange(length, dtype=np.int32) + 10_000 * index
        for index, length in enumerate(lengths)
    }
    body = chunk_tokens - first
    try:
        drawn = draw_chunks(streams, chunks, chunk_tokens, first=-7 if first else None, seed=seed)
    except TooFewTokens as error:
        assert error.tokens < error.needed_tokens
        assert any(
            length // body < wanted
            for length, wanted in zip(lengths, shares(len(lengths), chunks), strict=True)
        )
        return
    assert list(drawn) == list(streams)
    assert [len(part) for part in drawn.values()] == shares(len(streams), chunks)
    for domain, part in drawn.items():
        seen: list[int] = []
        for chunk in part:
            assert len(chunk) == chunk_tokens
            assert not first or chunk[0] == -7
            tokens = chunk[first:].tolist()
            assert tokens == list(range(tokens[0], tokens[0] + body))
            assert set(tokens) <= set(streams[domain].tolist())
            seen += tokens
        assert len(seen) == len(set(seen))


def test_chunks_are_spread_and_a_seed_moves_them() -> None:
    stream = np.arange(1000, dtype=np.int32)
    starts = [
        [int(chunk[0]) for chunk in draw_chunks({"p": stream}, 4, 10, seed=seed)["p"]] for seed in range(3)
    ]
    assert starts[0] == [0, 250, 500, 750]
    assert len({tuple(places) for places in starts}) == 3
    for places in starts:
        assert np.diff(places).tolist() == [250, 250, 250]


def test_a_short_domain_is_named_with_both_numbers() -> None:
    streams = {"prose": np.arange(1000, dtype=np.int32), "code": np.arange(30, dtype=np.int32)}
    with pytest.raises(
        TooFewTokens, match=r"'code' have 30 tokens; 40 are needed.*at most 60 tokens"
    ) as short:
        draw_chunks(streams, 8, 10)
    assert (short.value.tokens, short.value.needed_tokens) == (30, 40)


def test_of_a_domain_without_a_whole_chunk_more_text_is_wanted_and_nothing_else() -> None:
    with pytest.raises(TooFewTokens, match=r"'code' have 9 tokens; 80 are needed: give more text$"):
        draw_chunks({"code": np.arange(9, dtype=np.int32)}, 8, 10)
