"""Texts on which tokenizers tend to differ: scripts, spaces, digits, marks, emoji, code, mixtures."""

from __future__ import annotations

import random
import unicodedata
from functools import cache

from quant.calibration.texts import builtin

PIECES = (
    *(" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\u200d", "\ufeff"),
    *("a", "I", "The", "the", "HTTPServer", "iPhone", "ÄÖ", "ß", "é", "ñ", "ĳ", "ﬁ", "Ⅷ", "½", "x²", "ǅ"),
    *("'s", "'LL", "'re", "’s", "don't", "l'été", "0", "12", "345", "6789", "3.14", "1,000", "٣٤", "४२"),
    *("你好", "世界。", "ラーメン", "안녕", "नमस्ते", "ภาษาไทย", "שלום", "مَرحبا", "Привет", "Ελλάδα", "ქართ"),
    *("🦙", "👩‍👩‍👧‍👦", "🇩🇪", "✅", "1️⃣", "…", "“q”", "«»", "—", "¿¡", "...", "!?", "--", "==", "!=", "->"),
    *("{}", "();", "//", "#", "<b>", "</a>", "_", "__init__", "$x", "@me", "~", "\\n", '"', "`", "|", "^"),
    *(
        "http://a.b/c?d=e&f",
        "a_b-c.d",
        "C++",
        "0x1F",
        "1e-5",
        "std::vector<int>",
        "def f(x):\n    return x\n",
    ),
)
COUNT = 2400


@cache
def hard_strings() -> tuple[str, ...]:
    """At least 2,000 different texts, in NFC: lines and cuts of real ones, and random mixtures."""
    chance = random.Random(7)
    found = [*PIECES]
    for text in builtin("calibration"):
        lines = text.text.split("\n")
        found += chance.sample(lines, min(len(lines), 40))
        for _ in range(20):
            start = chance.randrange(max(len(text.text) - 80, 1))
            found.append(text.text[start : start + chance.randrange(1, 80)])
    different = dict.fromkeys(unicodedata.normalize("NFC", text) for text in found if text)
    while len(different) < COUNT:
        mixture = "".join(chance.choice(PIECES) for _ in range(chance.randrange(1, 14)))
        different[unicodedata.normalize("NFC", mixture)] = None
    return tuple(different)


def has_marks(text: str, *categories: str) -> bool:
    """Whether a combining mark is in ``text``: of ``categories``, or of any."""
    wanted = categories or ("Mn", "Mc", "Me")
    return any(unicodedata.category(character) in wanted for character in text)
