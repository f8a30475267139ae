"""The certificate as ``localq.*`` keys of a GGUF, and back.

Every value has a size that is known before the tensors are encoded: NaN, 0 and 64 zeros stand for what is not
known yet, so the header can be written again in place. Keys of other files are read as hostile input.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from quant.allocation.running import PREFIX as RUNNING_PREFIX
from quant.allocation.running import Running
from quant.certificate.document import (
    VERSION,
    Certificate,
    Encoder,
    Figures,
    ImatrixFacts,
    TextFacts,
    TrainingFacts,
)
from quant.files.layout import Key
from runtime.errors import GgufError
from runtime.gguf import ArrayRef, GgufHeader
from runtime.gguf.ggml_types import GGML_TYPES, GGML_TYPES_BY_NAME
from runtime.gguf.packed import PackedTensor
from runtime.gguf.values import ValueType

PREFIX: Final = "localq."
VERSION_KEY: Final = "localq.certificate.version"
ENCODERS: Final[tuple[Encoder, ...]] = ("copied", "nearest", "feedback", "trained")
FIGURES: Final = Figures.__struct_fields__
COUNTS: Final = ("tokens", "chunks")
TRAINED: Final = ("held_out", "held_out_before")
BEFORE: Final = ("kl_before", "kl_before_stderr", "perplexity_before", "perplexity_before_stderr")
KIND_LENGTH: Final = len("top-256")
MAX_ARRAY_BYTES: Final = 64 << 20


def to_keys(certificate: Certificate) -> list[Key]:
    """The keys, always the same ones in the same order for the same plan; :class:`Making` has none."""
    source, texts = certificate.source, certificate.evaluation
    by_text = {found.text: found.figures for found in certificate.by_text}
    keys = [
        Key(VERSION_KEY, ValueType.U32, certificate.version),
        Key("localq.tool", ValueType.STRING, certificate.tool),
        Key("localq.source.name", ValueType.STRING, source.name),
        Key("localq.source.sha256", ValueType.STRING, source.sha256, array=True),
        Key("localq.source.types", ValueType.STRING, source.types),
        Key("localq.source.already_quantized", ValueType.BOOL, source.already_quantized),
        Key("localq.target", ValueType.STRING, certificate.target),
        Key("localq.overrides", ValueType.STRING, certificate.overrides, array=True),
        Key("localq.seed", ValueType.U64, certificate.seed),
        Key("localq.options", ValueType.STRING, certificate.options),
        *_text_keys("localq.calibration", certificate.calibration),
        Key("localq.calibration.statistics_sha256", ValueType.STRING, certificate.statistics_sha256 or ""),
        *_imatrix_keys(certificate.imatrix),
        *_training_keys(certificate.training),
        *_running_keys(certificate.running),
        Key("localq.probed.roles", ValueType.STRING, tuple(certificate.probed), array=True),
        Key("localq.probed.nats", ValueType.F64, tuple(certificate.probed.values()), array=True),
        *_text_keys("localq.evaluation", texts),
        *(_figure_key(f"localq.{name}", name, certificate.figures) for name in FIGURES if texts),
        *([Key("localq.kl_kind", ValueType.STRING, certificate.kl_kind.ljust(KIND_LENGTH))] if texts else []),
        *(_figures_key(name, [by_text.get(text.name) for text in texts]) for name in FIGURES),
        Key(
            "localq.tensor.error",
            ValueType.F64,
            [math.nan if tensor.error is None else tensor.error for tensor in certificate.tensors],
            array=True,
        ),
        Key(
            "localq.tensor.encoder",
            ValueType.U8,
            [ENCODERS.index(tensor.encoder) for tensor in certificate.tensors],
            array=True,
        ),
        Key(
            "localq.tensor.source_type",
            ValueType.U8,
            [GGML_TYPES_BY_NAME[tensor.source_type].id for tensor in certificate.tensors],
            array=True,
        ),
        Key("localq.data_sha256", ValueType.STRING, certificate.data_sha256),
    ]
    # An empty array says nothing, and not every reader takes one.
    return [key for key in keys if not key.array or (isinstance(key.value, tuple | list) and key.value)]


def _text_keys(prefix: str, texts: tuple[TextFacts, ...]) -> list[Key]:
    return [
        Key(f"{prefix}.texts", ValueType.STRING, [text.name for text in texts], array=True),
        Key(f"{prefix}.sha256", ValueType.STRING, [text.sha256 for text in texts], array=True),
        Key(f"{prefix}.tokens", ValueType.U64, [text.tokens for text in texts], array=True),
    ]


def _imatrix_keys(imatrix: ImatrixFacts | None) -> list[Key]:
    if imatrix is None:
        return []
    return [
        Key("localq.imatrix.name", ValueType.STRING, imatrix.name),
        Key("localq.imatrix.sha256", ValueType.STRING, imatrix.sha256),
        Key("localq.imatrix.tokens", ValueType.U64, imatrix.tokens),
        Key("localq.imatrix.datasets", ValueType.STRING, imatrix.datasets, array=True),
    ]


def _training_keys(training: TrainingFacts | None) -> list[Key]:
    if training is None:
        return []
    before = {name: getattr(training, name) for name in BEFORE}
    return [
        Key("localq.training.options", ValueType.STRING, training.options),
        Key("localq.training.steps", ValueType.U64, training.steps),
        *_text_keys("localq.training", training.texts),
        *(Key(f"localq.training.{name}", ValueType.F64, getattr(training, name)) for name in TRAINED),
        *(
            Key(f"localq.training.{name}", ValueType.F64, math.nan if value is None else value)
            for name, value in before.items()
        ),
    ]


def _running_keys(running: Running | None) -> list[Key]:
    if running is None:
        return []
    kinds = {"kv_type": ValueType.STRING, "kl": ValueType.F64}
    return [
        Key(f"{RUNNING_PREFIX}{name}", kinds.get(name, ValueType.U64), getattr(running, name))
        for name in Running.__struct_fields__
    ]


def _figure_key(key: str, name: str, figures: Figures | None) -> Key:
    if name in COUNTS:
        return Key(key, ValueType.U64, getattr(figures, name) if figures else 0)
    return Key(key, ValueType.F64, getattr(figures, name) if figures else math.nan)


def _figures_key(name: str, by_text: list[Figures | None]) -> Key:
    kind = ValueType.U64 if name in COUNTS else ValueType.F64
    unknown = 0 if name in COUNTS else math.nan
    values = [getattr(figures, name) if figures else unknown for figures in by_text]
    return Key(f"localq.evaluation.by_text.{name}", kind, values, array=True)


def read_certificate(header: GgufHeader) -> Certificate | None:
    """The certificate in a validated header; None for a file without one.

    Raises :class:`GgufError` (``bad-certificate``) where the keys do not make one.
    """
    version = header.metadata.get(VERSION_KEY)
    if version is None:
        return None
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise _bad(header, f"its version is {version!r}; this localq reads 1 to {VERSION}")
    try:
        return msgspec.convert(_document(_Reader(header)), Certificate)
    except (msgspec.ValidationError, ValueError) as error:
        raise _bad(header, str(error)) from error


class _Reader:
    """Typed access to the keys; a ValueError says what a key should have been."""

    def __init__(self, header: GgufHeader) -> None:
        self.header = header

    def scalar(self, name: str) -> Any:
        value = self.header.metadata.get(PREFIX + name)
        if value is None or isinstance(value, ArrayRef):
            raise ValueError(f"{PREFIX}{name} is missing, or an array")
        return value

    def array(self, name: str) -> list[Any]:
        """The elements; none where the key is missing."""
        value = self.header.metadata.get(PREFIX + name)
        if value is None:
            return []
        if not isinstance(value, ArrayRef):
            raise ValueError(f"{PREFIX}{name} is no array")
        if value.nbytes > MAX_ARRAY_BYTES:
            raise ValueError(f"{PREFIX}{name} has {value.nbytes} bytes")
        found = self.header.read_array(value)
        return [each.decode("utf-8") if isinstance(each, bytes) else each for each in found]

    def figures(self, values: dict[str, Any]) -> dict[str, Any] | None:
        """None where nothing was evaluated."""
        return None if all(_is_unknown(value) for value in values.values()) else values


def _document(reader: _Reader) -> dict[str, Any]:
    header = reader.header
    evaluation = _texts(reader, "evaluation")
    figures = {name: reader.scalar(name) for name in FIGURES} if evaluation else {}
    columns = {name: reader.array(f"evaluation.by_text.{name}") for name in FIGURES}
    by_text = []
    for index, text in enumerate(evaluation):
        found = reader.figures({name: _at(columns[name], index, name) for name in FIGURES})
        if found is not None:
            by_text.append({"text": text["name"], "figures": found})
    return {
        "version": reader.scalar("certificate.version"),
        "tool": reader.scalar("tool"),
        "source": {
            "name": reader.scalar("source.name"),
            "sha256": reader.array("source.sha256"),
            "types": reader.scalar("source.types"),
            "already_quantized": reader.scalar("source.already_quantized"),
        },
        "target": reader.scalar("target"),
        "overrides": reader.array("overrides"),
        "seed": reader.scalar("seed"),
        "options": reader.scalar("options"),
        "calibration": _texts(reader, "calibration"),
        "statistics_sha256": reader.scalar("calibration.statistics_sha256") or None,
        "imatrix": _imatrix(reader),
        "evaluation": evaluation,
        "figures": reader.figures(figures) if figures else None,
        "kl_kind": str(reader.scalar("kl_kind")).strip() if evaluation else "",
        "by_text": by_text,
        "training": _training(reader),
        "running": _running(reader),
        "probed": dict(zip(reader.array("probed.roles"), reader.array("probed.nats"), strict=True)),
        "tensors": _tensors(reader, header),
        "static_inputs": len(header.activations),
        "shared_bytes": header.packed.shared_bytes if header.packed else 0,
        "data_sha256": reader.scalar("data_sha256"),
    }


def _imatrix(reader: _Reader) -> dict[str, Any] | None:
    if PREFIX + "imatrix.name" not in reader.header.metadata:
        return None
    return {name: reader.scalar(f"imatrix.{name}") for name in ("name", "sha256", "tokens")} | {
        "datasets": reader.array("imatrix.datasets")
    }


def _training(reader: _Reader) -> dict[str, Any] | None:
    if PREFIX + "training.options" not in reader.header.metadata:
        return None
    before = {name: reader.scalar(f"training.{name}") for name in BEFORE}
    return {
        **{name: reader.scalar(f"training.{name}") for name in ("options", "steps", *TRAINED)},
        **{name: None if value != value else value for name, value in before.items()},
        "texts": _texts(reader, "training"),
    }


def _running(reader: _Reader) -> dict[str, Any] | None:
    if f"{RUNNING_PREFIX}budget_bytes" not in reader.header.metadata:
        return None
    return {name: reader.scalar(f"running.{name}") for name in Running.__struct_fields__}


def _texts(reader: _Reader, kind: str) -> list[dict[str, Any]]:
    names, digests, tokens = (reader.array(f"{kind}.{part}") for part in ("texts", "sha256", "tokens"))
    return [
        {"name": name, "sha256": digest, "tokens": count}
        for name, digest, count in zip(names, digests, tokens, strict=True)
    ]


def _tensors(reader: _Reader, header: GgufHeader) -> list[dict[str, Any]]:
    errors, encoders, types = (reader.array(f"tensor.{part}") for part in ("error", "encoder", "source_type"))
    tensors = []
    for tensor, error, encoder, number in zip(header.all_tensors, errors, encoders, types, strict=True):
        if not 0 <= encoder < len(ENCODERS) or number not in GGML_TYPES:
            raise ValueError(f"{tensor.name} has the encoder {encoder} and the source type {number}")
        if not isinstance(error, float) or math.isinf(error) or error < 0:
            raise ValueError(f"{tensor.name} has the error {error!r}")
        tensors.append(
            {
                "name": tensor.name,
                "source_type": GGML_TYPES[number].name,
                "type": tensor.format.upper() if isinstance(tensor, PackedTensor) else tensor.type.name,
                "elements": tensor.elements,
                "nbytes": tensor.nbytes,
                "encoder": ENCODERS[encoder],
                "error": None if math.isnan(error) else error,
            }
        )
    return tensors


def _at(column: list[Any], index: int, name: str) -> Any:
    if index >= len(column):
        raise ValueError(f"{PREFIX}evaluation.by_text.{name} has {len(column)} elements, too few")
    return column[index]


def _is_unknown(value: Any) -> bool:
    return bool(value == 0 or value != value)


def _bad(header: GgufHeader, reason: str) -> GgufError:
    return GgufError(header.path, "bad-certificate", f"its certificate (localq.* keys) is damaged: {reason}")
