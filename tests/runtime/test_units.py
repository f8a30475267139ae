from __future__ import annotations

import pytest

from runtime.units import format_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (5 << 29, "2.50 GiB"),
        (200 << 20, "200 MiB"),
        (98_362_432, "93.8 MiB"),
        ((1 << 30) - 1, "1.00 GiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_sizes_are_written_for_a_person_with_three_digits(count: int, text: str) -> None:
    assert format_bytes(count) == text
