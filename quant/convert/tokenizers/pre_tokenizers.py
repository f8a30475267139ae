"""Which of llama.cpp's pre-tokenizers cuts texts as a tokenizer.json does.

llama.cpp has no regular expressions in its files, only names of lists that it knows. A name is found here by
what the tokenizer does, not by a hash of its results, so any vocabulary with a known way of cutting is
recognized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from quant.convert.tokenizers.tokenizer_json import expression

GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What the step ``ByteLevel`` cuts by, unless it is told not to."""
DIGIT: Final = r"\p{N}"
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BEHIND_WORDS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K: Final = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _BEHIND_WORDS
"""GPT-4's, of Llama 3 too."""
QWEN2: Final = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _BEHIND_WORDS
QWEN35: Final = (
    _CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_SLASHES = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K: Final = (
    f"{_BEFORE}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_BEFORE}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}" + _SLASHES
)
"""GPT-4o's."""
TEKKEN: Final = f"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*" r"|\p{N}" + _SLASHES
DEEPSEEK3: Final = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


@dataclass(frozen=True)
class PreTokenizer:
    """One that llama.cpp has; ``cuts`` are expressions, applied one after the other."""

    name: str
    cuts: tuple[str, ...]
    ignore_merges: bool = False
    """Whether a word that is a token is taken whole."""
    clean_spaces: bool = True
    """Whether spaces before marks vanish where tokens become text again."""
    marks_are_letters: bool = True
    """Whether llama.cpp knows combining marks for parts of words where ``cuts`` say so."""


KNOWN: Final = (
    PreTokenizer("gpt-2", (GPT2,)),
    PreTokenizer("trillion", (GPT2,), clean_spaces=False),
    PreTokenizer("refact", (DIGIT, GPT2)),
    PreTokenizer("smollm", (DIGIT, GPT2), clean_spaces=False),
    PreTokenizer("llama-bpe", (CL100K,), ignore_merges=True),
    PreTokenizer("dbrx", (CL100K,)),
    PreTokenizer("stablelm2", (QWEN2,)),
    PreTokenizer("qwen2", (QWEN2,), clean_spaces=False),
    PreTokenizer("qwen35", (QWEN35,), clean_spaces=False),
    PreTokenizer("gpt-4o", (O200K,), clean_spaces=False, marks_are_letters=False),
    PreTokenizer("tekken", (TEKKEN,), ignore_merges=True, clean_spaces=False, marks_are_letters=False),
    PreTokenizer("deepseek-v3", DEEPSEEK3, clean_spaces=False),
)
"""Those of the architectures that are converted."""


def cuts_of(steps: Sequence[dict[str, Any]]) -> tuple[str, ...] | None:
    """The expressions that a byte-level tokenizer cuts by; None where a step does something else.

    A cut that throws away what it does not match cuts the same as one that keeps all, if every character is
    matched, as it is by the expressions that are known here.
    """
    cuts: list[str] = []
    for step in steps:
        kind = step.get("type")
        if kind == "Split":
            pattern = expression(step)
            behavior = (step.get("behavior"), bool(step.get("invert")))
            if pattern is None or behavior not in (
                ("Isolated", False),
                ("Removed", True),
                ("Isolated", True),
            ):
                return None
            cuts.append(_plain(pattern))
        elif kind == "Digits":
            cuts.append(DIGIT if step.get("individual_digits") else r"\p{N}+")
        elif kind == "ByteLevel":
            if step.get("use_regex", True):
                cuts.append(GPT2)
        else:
            return None
    return tuple(cuts)


def _plain(pattern: str) -> str:
    """The same expression, written as those above: line ends as escapes, one repetition without a count."""
    return (
        pattern.replace("\r", r"\r")
        .replace("\n", r"\n")
        .replace(r"\p{N}{1}", r"\p{N}")
        .replace("'(?i:[sdmt]|ll|ve|re)", _CONTRACTIONS)
        .replace("?+", "?")
        .replace("++", "+")
    )


def find_pre_tokenizer(cuts: tuple[str, ...], ignore_merges: bool, clean_spaces: bool) -> PreTokenizer | None:
    """The one that cuts and merges the same; where two do, the one that also cleans spaces alike."""
    alike = [found for found in KNOWN if found.cuts == cuts and found.ignore_merges == ignore_merges]
    exact = [found for found in alike if found.clean_spaces == clean_spaces]
    return next(iter(exact + alike), None)
