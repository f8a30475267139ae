"""What a quantized file says of itself: its source, what was done to each tensor, and how good it is.

The same facts stand in two places. In the GGUF, as ``localq.*`` keys: only what is the same each time the
file is made, so that its bytes can be compared. In a JSON document beside it: those, and time, energy and
machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

import msgspec

from quant.allocation.running import Proof, Running

VERSION = 1

Sha256: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Encoder: TypeAlias = Literal["copied", "nearest", "feedback", "trained"]
Activations: TypeAlias = Literal["dynamic", "static"]
"""How what matrices multiply is rounded to bytes: by its values, or with scales that calibration fixed."""

UNKNOWN_SHA256 = "0" * 64
"""In a header that is written before its tensors are."""


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The model that was quantized."""

    name: str
    """The file's name, never its path."""
    sha256: tuple[Sha256, ...]
    """Of each of its files."""
    types: str
    """Of its matrices, as ``F16``, the commonest first."""
    already_quantized: bool
    """Whether an earlier quantization has taken from it what no later one gives back."""


class TextFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A text that the model was run on."""

    name: str
    sha256: Sha256
    tokens: Count


class ImatrixFacts(msgspec.Struct, frozen=True, kw_only=True):
    """llama.cpp's importance matrix, where one was taken in the place of calibration texts."""

    name: str
    """The file's name, never its path."""
    sha256: Sha256
    tokens: Count
    """The most that a matrix saw, as the file says."""
    datasets: tuple[str, ...] = ()
    """What it was measured on, as the file says."""


class TensorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor."""

    name: str
    source_type: str
    type: str
    elements: Count
    nbytes: Count
    encoder: Encoder
    error: float | None
    """Squared error of the matrix's output over its square, on calibration's inputs and 128 rows at most; of
    the weights themselves where no input was seen, and where the tensor was trained. None = copied."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What else was asked for; 0 and False where there was no use for it."""

    calibration_tokens: Count
    context_tokens: Count
    evaluation_chunks: Count
    feedback: bool
    moment_bytes: Count
    words: bool = False
    """Whether tensors might get LT formats."""
    expert_moments: bool = False
    """Whether calibration kept second moments of each expert."""
    activations: Activations = "dynamic"

    def __str__(self) -> str:
        return json.dumps(msgspec.to_builtins(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> Options:
        """The inverse of ``str``. Raises :class:`msgspec.DecodeError`."""
        return msgspec.json.decode(text, type=cls)


class TrainingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a quantized model was trained further."""

    options: str
    """:class:`quant.qat.options.TrainOptions` as JSON: what the result depends on."""
    steps: Count
    """Updates until the state that was best on the held-out texts; 0 where none was better than the
    beginning. In ``blocks``, the most of any layer."""
    texts: tuple[TextFacts, ...]
    """What was learned from, by domain: tokens of what those updates read, each chunk counted once."""
    held_out: float
    """Loss on the held-out texts in the best state (see :class:`quant.qat.progress.Check`)."""
    held_out_before: float
    kl_before: float | None = None
    """Divergence of the model before training, on the texts that the result is judged on."""
    kl_before_stderr: float | None = None
    perplexity_before: float | None = None
    perplexity_before_stderr: float | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The quantized model against its source, under the names of :class:`quant.evaluation.Figures`."""

    tokens: Count
    chunks: Count
    perplexity: float
    perplexity_stderr: float
    original_perplexity: float
    original_perplexity_stderr: float
    perplexity_ratio: float
    perplexity_ratio_stderr: float
    kl_mean: float
    kl_stderr: float
    kl_median: float
    kl_p99: float
    kl_max: float
    top1_agreement: float
    top1_stderr: float


class TextFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The same of one text."""

    text: str
    figures: Figures


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """What it took: differs each time, so it stands in the JSON only."""

    created: str
    """ISO 8601, UTC."""
    seconds: float
    joules: float | None = None
    """None where the machine has no counter."""
    peak_memory_bytes: int | None = None
    isa: str = ""


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of a file that localq quantized."""

    version: Annotated[int, msgspec.Meta(ge=1)] = VERSION
    tool: str
    """Version of localq."""
    source: SourceFacts
    target: str
    """As it was asked for: a :class:`quant.request.Target` as text."""
    overrides: tuple[str, ...] = ()
    seed: Count = 0
    options: str = ""
    """:class:`Options` as text."""
    calibration: tuple[TextFacts, ...] = ()
    statistics_sha256: Sha256 | None = None
    """Of what calibration measured; None without calibration texts."""
    imatrix: ImatrixFacts | None = None
    evaluation: tuple[TextFacts, ...] = ()
    figures: Figures | None = None
    """None where nothing was evaluated."""
    kl_kind: Literal["", "full", "top-256"] = ""
    """See :class:`quant.evaluation.Evaluation`; empty where nothing was evaluated."""
    by_text: tuple[TextFigures, ...] = ()
    training: TrainingFacts | None = None
    """Where what was quantized was trained further; None where it was not."""
    running: Running | None = None
    """Where the formats were chosen for a memory: how the file is meant to be run, and what was foreseen."""
    probed: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = {}
    """Where formats were chosen with probes: the divergence that each role of matrices was found to cost."""
    tensors: tuple[TensorFacts, ...] = ()
    """In the order of the file's table, then the packed matrices in that of their directory."""
    static_inputs: Count = 0
    """Matrices whose input is rounded with static scales."""
    shared_bytes: Count = 0
    """Of what packed matrices share: transforms of inputs, and tables."""
    data_sha256: Sha256 = UNKNOWN_SHA256
    """See :func:`data_digest`."""
    making: Making | None = None
    proof: Proof | None = None
    """Of :attr:`running`; like :attr:`making` in the JSON only."""

    @property
    def nbytes(self) -> int:
        """Of all tensors' data, and of what packed matrices share."""
        return sum(tensor.nbytes for tensor in self.tensors) + self.shared_bytes

    @property
    def bits_per_weight(self) -> float:
        elements = sum(tensor.elements for tensor in self.tensors)
        return 8 * self.nbytes / elements if elements else 0.0


def to_json(certificate: Certificate) -> bytes:
    """The document that lies beside the file."""
    return msgspec.json.format(msgspec.json.encode(certificate)) + b"\n"


def from_json(raw: bytes) -> Certificate:
    """The inverse. Raises :class:`msgspec.DecodeError`."""
    try:
        return msgspec.json.decode(raw, type=Certificate)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error


def data_digest(tensor_digests: Iterable[str]) -> str:
    """One digest over those of all tensors in their order, each the SHA-256 of its bytes, in hex.

    So that each tensor can be hashed by itself, in any order, and taken from a journal after a kill.
    """
    return hashlib.sha256("".join(tensor_digests).encode()).hexdigest()
