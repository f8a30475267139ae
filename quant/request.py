"""What a person asks for: one model, one size or format, the texts to measure with, and the means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quant.allocation.fit import Fit
from quant.allocation.recipe import MIXTURES, Override, uses_words
from quant.calibration.imatrix import ImatrixFile
from quant.calibration.text import CalibrationText
from quant.certificate.document import Activations
from quant.evaluation.result import EvaluationText

_BITS: Final = " bits per weight"
_BYTES: Final = " bytes"
FITTED: Final = "fitted to a memory"


@dataclass(frozen=True, slots=True)
class Target:
    """Exactly one of four: a mixture's name, bits for each weight, the size of the whole file, or the memory
    that it runs in."""

    mixture: str | None = None
    bits_per_weight: float | None = None
    size_bytes: int | None = None
    fit: Fit | None = None

    def __post_init__(self) -> None:
        if [self.mixture, self.bits_per_weight, self.size_bytes, self.fit].count(None) != 3:
            raise ValueError("a target is one of a mixture, bits per weight, a size, or a memory")

    def __str__(self) -> str:
        if self.mixture is not None:
            return self.mixture
        if self.fit is not None:
            return FITTED
        if self.bits_per_weight is not None:
            return f"{self.bits_per_weight!r}{_BITS}"
        return f"{self.size_bytes}{_BYTES}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """The inverse of ``str``; of a memory the numbers are lost, the certificate has those of the plan.

        Raises ValueError for what no target reads as.
        """
        if text == FITTED:
            return cls(fit=Fit())
        if text.endswith(_BITS):
            bits = float(text.removesuffix(_BITS))
            if not 0 < bits < math.inf:
                raise ValueError(f"{text!r} is no number of bits")
            return cls(bits_per_weight=bits)
        if text.endswith(_BYTES):
            return cls(size_bytes=int(text.removesuffix(_BYTES)))
        if text not in MIXTURES:
            raise ValueError(f"{text!r} is no target that this localq knows")
        return cls(text)


@dataclass(frozen=True, slots=True)
class QuantizeRequest:
    """All that decides the bytes of the result, and where they go."""

    source: tuple[Path, ...]
    """The GGUF, or all parts of a split one."""
    target: Target
    out: Path
    """The file to publish. It must not exist, unless ``replace``."""
    tool: str
    """Version of localq, for the certificate."""
    overrides: tuple[Override, ...] = ()
    portable: bool = False
    """Whether only formats of ggml are chosen, which any llama.cpp runs. What is asked for by name counts all
    the same."""
    calibration: tuple[CalibrationText, ...] = ()
    """Without texts or ``imatrix``, weights are rounded for their own sake only."""
    calibration_tokens: int = 32_768
    imatrix: ImatrixFile | None = None
    """What llama.cpp measured, in the place of ``calibration``: mean squares alone, so that nothing is fed
    back."""
    save_imatrix: Path | None = None
    """A file for what calibration measured, as llama.cpp's tools take it. It must not exist with other
    contents."""
    evaluation: tuple[EvaluationText, ...] = ()
    """Without texts, nothing is evaluated."""
    judge: bool = True
    """Whether the texts are read; if not, the file has room for the figures and none in it."""
    evaluation_chunks: int = 24
    probing: tuple[EvaluationText, ...] = ()
    """What tests how much each role of matrices counts before formats are chosen; without texts, that is
    guessed. Not to be those of ``evaluation``."""
    context_tokens: int = 512
    """Length of a chunk, of calibration and of evaluation."""
    seed: int = 0
    feedback: bool = True
    """Whether errors are fed back to the columns that are not rounded yet, where calibration allows it."""
    expert_moments: bool | None = None
    """Whether calibration keeps second moments of each expert, which LT formats need; None: where one is
    named. For thousands of experts they take many passes, too much for formats that may be chosen."""
    activations: Activations = "dynamic"
    """How what matrices multiply is rounded: by its values, or with scales that calibration fixes."""
    moment_bytes: int = 1 << 30
    """For the sums of one pass of calibration: it decides how large the blocks of the Hessians may be."""
    jobs: int = 1
    """Threads; they do not change the result."""
    memory_bytes: int | None = None
    """The most that may be used; None = what the machine has available."""
    work: Path | None = None
    """The folder for work under way; None = that of ``out``. On the disk of ``out`` in any case."""
    reuse: Path | None = None
    """A file that was made of the same source: what it holds that this one would have too is copied."""
    copies: int = 1
    """How often the file will lie on the disk for a while: twice where it is copied into a store."""
    replace: bool = False

    @property
    def words(self) -> bool:
        """Whether tensors may get LT formats: by name, or by choice."""
        return uses_words(self.target.mixture, self.overrides) or self.chooses_words

    @property
    def calibrates_experts(self) -> bool:
        """Whether each expert gets second moments of its own."""
        if self.expert_moments is None:
            return uses_words(self.target.mixture, self.overrides)
        return self.expert_moments and bool(self.calibration)

    @property
    def chooses_words(self) -> bool:
        """Whether LT formats are among those that are chosen from: where inputs are known and fed back to."""
        chooses = self.target.mixture is None and not self.portable
        return chooses and self.feedback and bool(self.calibration)

    def deciding(self) -> dict[str, Any]:
        """What the tensors of the result depend on, beside the source: of JSON types."""
        evaluation = {
            "evaluation": [[text.name, text.sha256] for text in self.evaluation],
            "evaluation_chunks": self.evaluation_chunks,
        }
        # The evaluation's texts stand in the header, which is a part of the size.
        imatrix = {"imatrix": self.imatrix.sha256} if self.imatrix else {}
        return (
            (evaluation if self.target.size_bytes is not None else {})
            | imatrix
            | {
                "tool": self.tool,
                "target": [self.target.mixture, self.target.bits_per_weight, self.target.size_bytes],
                **({"probing": [text.sha256 for text in self.probing]} if self.probing else {}),
                **({"fit": self.target.fit.deciding()} if self.target.fit else {}),
                "overrides": [[choice.pattern, choice.format] for choice in self.overrides],
                "calibration": [text.sha256 for text in self.calibration],
                "calibration_tokens": self.calibration_tokens,
                "context_tokens": self.context_tokens,
                "seed": self.seed,
                "feedback": self.feedback,
                **({"portable": True} if self.portable else {}),
                **({"activations": self.activations} if self.activations != "dynamic" else {}),
                "moment_bytes": self.moment_bytes,
            }
        )
