"""Whether an evaluation text was already seen in calibration: then its figures would flatter.

Two texts overlap where they share 13 words in a row, the usual test for contamination (Brown et al. 2020,
arXiv:2005.14165, appendix C). Words are compared without case, punctuation and white space; in scripts that
put no spaces between words every character counts as one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from quant.calibration.text import CalibrationText
from quant.errors import TextsOverlap
from quant.evaluation.result import EvaluationText

WORDS = 13
_UNSPACED = (
    "\u0e00-\u0e7f"  # Thai
    "\u0e80-\u0eff"  # Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f"  # Han
)
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")

Gram: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """``shared`` of a text's ``grams`` (distinct runs of words) are in another text too."""

    shared: int
    grams: int
    example: str = ""
    """The first shared run, as compared; empty where there is none."""

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.shared / self.grams if self.grams else 0.0


def overlap(text: str, others: Iterable[str], words: int = WORDS) -> Overlap:
    """How much of ``text`` is in ``others``, which may be long: only the runs of ``text`` are kept in memory.

    A text of fewer than ``words`` words has no runs and overlaps with nothing.
    """
    own = dict.fromkeys(runs(text, words), False)
    for other in others:
        for gram in runs(other, words):
            if gram in own:
                own[gram] = True
    shared = [gram for gram, found in own.items() if found]
    return Overlap(len(shared), len(own), " ".join(shared[0]) if shared else "")


def require_disjoint(
    evaluation: Sequence[EvaluationText],
    calibration: Sequence[CalibrationText],
    characters: int,
    *,
    reader: str = "calibration",
    option: str = "--calib",
) -> None:
    """Raises :class:`TextsOverlap` where calibration holds something of an evaluation text.

    ``reader`` reads the texts of ``calibration``, which a person chooses with ``option``. Looks at the first
    ``characters`` of each evaluation text: evaluation reads no further.
    """
    seen = [text.text or "\n".join(m["content"] for m in text.messages) for text in calibration]
    for text in evaluation:
        found = overlap(text.text[:characters], seen)
        if found.shared:
            raise TextsOverlap(
                f"{reader} would see {100 * found.share:.1f} % of the evaluation text {text.name} "
                f'("{found.example}"), and its figures would flatter; give other texts with {option} or '
                "--eval"
            )


def runs(text: str, words: int = WORDS) -> Iterator[Gram]:
    """Every ``words`` consecutive words of a text."""
    window: deque[str] = deque(maxlen=words)
    for match in _WORD.finditer(text.casefold()):
        window.append(match[0])
        if len(window) == words:
            yield tuple(window)
