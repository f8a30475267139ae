"""What sanitising costs, in processor time of a process of its own (a tracer here would count too).

Measured on a busy core of an AMD EPYC under CPython 3.11, nanoseconds a character, whole text / in pieces of
8 characters: English 7 / 40, Chinese 6 / 50, Thai 120 / 270, vocalised Arabic 170 / 270, emoji 335 / 485;
escape sequences 100 / 210, bidi 440 / 445, Zalgo 140 / 210, tags 530 / 715, broken keycaps 600 / 685, broken
joiners 660 / 765, unassigned code points 705 / 825. A piece of one character costs 200 to 350 if it is plain,
900 if it is ESC, and 1600 at worst: the bound of a microsecond a character holds from pieces of a few on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MEASURE = """
import json, random, time
from app.terminal import Sanitizer, sanitize

SIZE = 8_000
rng = random.Random(1)

def repeated(text):
    return (text * SIZE)[:SIZE]

def drawn(first, beyond):
    return "".join(chr(rng.randrange(first, beyond)) for _ in range(SIZE))

texts = {
    "plain-english": repeated("The quick brown fox.\\n"),
    "plain-chinese": repeated("人人生而自由，在尊嚴和權利上一律平等。"),
    "thai": repeated("มนุษย์ทั้งหลายเกิดมามีอิสระ"),
    "vocalised-arabic": repeated("يُولَدُ جَمِيعُ النَّاسِ"),
    "emoji": repeated("👩\\u200d💻❤\\ufe0f👍🏽"),
    "escapes": repeated("\\x1b[2J"),
    "c1": repeated("\\x9b"),
    "bidi": repeated("\\u202ea"),
    "tags": drawn(0xE0020, 0xE0080),
    "zalgo": "a" + repeated("\\u0301"),
    "stacks": repeated("a" + "\\u0301" * 9),
    "selectors": repeated("1\\ufe0f"),
    "joiners": repeated("👩\\u200d"),
    "flags": repeated("🏴\\U000e0067"),
    "halves": repeated("\\ud83d"),
    "pairs": repeated("\\ud83d\\ude00"),
    "returns": repeated("\\r"),
    "private": drawn(0xF0000, 0xFFFFE),
    "unassigned": drawn(0x40000, 0xE0000),
    "anything": drawn(0, 0x110000),
}

def in_pieces(text):
    sanitizer = Sanitizer()
    for start in range(0, len(text), 8):
        sanitizer.feed(text[start : start + 8])
    sanitizer.flush()

def nanoseconds(function, text):
    best = float("inf")
    for _ in range(11):
        start = time.process_time_ns()
        function(text)
        best = min(best, time.process_time_ns() - start)
    return best / len(text)

ways = (sanitize, in_pieces)
print(json.dumps({name: [nanoseconds(way, text) for way in ways] for name, text in texts.items()}))
"""


@pytest.fixture(scope="module")
def costs() -> dict[str, list[float]]:
    """Nanoseconds a character: [whole, in pieces of 8]."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    costs: dict[str, list[float]] = json.loads(done.stdout)
    return costs


def test_no_text_costs_more_than_a_microsecond_a_character(costs: dict[str, list[float]]) -> None:
    assert {name: whole for name, (whole, _) in costs.items() if whole > 1000} == {}


def test_short_pieces_cost_no_more_than_twice_that(costs: dict[str, list[float]]) -> None:
    assert {name: pieces for name, (_, pieces) in costs.items() if pieces > 2000} == {}


def test_plain_text_costs_next_to_nothing(costs: dict[str, list[float]]) -> None:
    assert {name: cost for name, cost in costs.items() if name.startswith("plain") and cost[0] > 50} == {}
