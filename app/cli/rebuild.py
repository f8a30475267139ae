"""``localq verify MODEL --rebuild``: the same source, the same request, the same bytes?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.front import Front
from app.errors import AppError, WrongUse

if TYPE_CHECKING:
    from app.models import ResolvedModel
    from app.settings import Settings
    from app.store import Manifest, Store
    from quant.allocation.recipe import Override
    from quant.certificate.document import Certificate, Options
    from quant.request import QuantizeRequest, Target


@dataclass(frozen=True)
class Rebuilt:
    """What quantizing again gave."""

    name: str
    expected_sha256: str
    found_sha256: str
    differing: tuple[str, ...]
    """Tensors with other bytes."""
    reason: str
    """Empty where the bytes are the same."""

    @property
    def same(self) -> bool:
        return self.expected_sha256 == self.found_sha256

    def document(self) -> dict[str, Any]:
        """As it is printed with --json."""
        return {
            "ok": self.same,
            "name": self.name,
            "expected_sha256": self.expected_sha256,
            "found_sha256": self.found_sha256,
            "differing_tensors": list(self.differing),
            "reason": self.reason,
        }


def rebuild(
    front: Front,
    settings: Settings,
    model: str,
    source: str | None,
    calibration: str | None,
    imatrix: str | None,
) -> Rebuilt:
    """Quantizes again what ``model`` was made of, in a scratch folder, and compares.

    Raises WrongUse where source or calibration texts are not at hand, AppError for a model without a
    certificate or with other data than it says, and what quantizing raises.
    """
    from app.cli.loading import find
    from app.cli.quality import certificate_of
    from app.cli.quantize_progress import shown
    from quant.pipeline import quantize

    store, found = find(front, settings, model)
    certificate = certificate_of(store, found)
    if certificate is None:
        raise no_certificate(model)
    asked = asked_for(model, certificate)
    mine = tensor_digests(front, found.paths)
    _require_sound(found, certificate, mine)
    with (
        source_of(front, settings, store, found, certificate, source) as original,
        store.scratch() as folder,
    ):
        paths = original.paths
        request = _request(front, settings, certificate, asked, paths, calibration, imatrix, folder)
        with shown(front, found.name, verbose=False) as show:
            again = quantize(request, on_event=show)
        theirs = tensor_digests(front, (again.path,))
    differing = tuple(name for name in mine if mine[name] != theirs.get(name))
    return Rebuilt(
        name=found.name,
        expected_sha256=certificate.data_sha256,
        found_sha256=again.certificate.data_sha256,
        differing=differing,
        reason=_reason(certificate, again.certificate),
    )


@dataclass(frozen=True)
class Asked:
    """What a certificate's text says of its request."""

    options: Options
    target: Target
    overrides: tuple[Override, ...]


def asked_for(model: str, certificate: Certificate) -> Asked:
    """What the file at ``model`` is said to be made by.

    Raises AppError for what is no request of ours, and for what was trained after that.
    """
    import msgspec

    from quant.allocation.recipe import parse_override
    from quant.certificate.document import Options
    from quant.request import Target

    if certificate.training is not None:
        raise AppError(
            f"{model} was trained after it was quantized, so quantizing does not make it again; train its "
            "source again as its certificate says",
            next_command=f"localq show {shlex.quote(model)} --quality",
        )
    try:
        return Asked(
            Options.parse(certificate.options),
            Target.parse(certificate.target),
            tuple(map(parse_override, certificate.overrides)),
        )
    except (ValueError, msgspec.DecodeError) as error:
        raise AppError(
            f"{model} cannot be made again: its certificate asks for what this localq does not know: {error}",
            next_command=f"localq show {shlex.quote(model)} --quality",
        ) from error


def no_certificate(model: str) -> AppError:
    """The error for a model that localq did not make, as it was given."""
    return AppError(
        f"{model} has no certificate: localq did not quantize it",
        next_command=f"localq eval {shlex.quote(model)} --against ORIGINAL",
    )


def tensor_digests(front: Front, paths: Sequence[Path]) -> dict[str, str]:
    """The digest of each tensor's data, by name, in the file's order."""
    from quant.files.stored import digests_of
    from runtime.gguf import open_model

    digests: dict[str, str] = {}
    with front.out.progress("reading the tensors") as progress:
        for header in open_model(tuple(paths)).headers:
            digests |= digests_of(header, lambda done, total: progress.update(done / total))
    return digests


def _require_sound(found: ResolvedModel, certificate: Certificate, mine: dict[str, str]) -> None:
    from quant.certificate.document import data_digest

    if data_digest(mine.values()) != certificate.data_sha256:
        raise AppError(
            f"{found.name} holds other data than its certificate says: it was changed, or is damaged",
            next_command=f"localq verify {shlex.quote(found.name)}" if found.manifest else None,
        )


@contextmanager
def source_of(
    front: Front,
    settings: Settings,
    store: Store,
    found: ResolvedModel,
    certificate: Certificate,
    given: str | None,
) -> Iterator[ResolvedModel]:
    """The model's source: as given, in the store, or where it was; converted for the block if it must be."""
    from app.cli.again import again
    from app.cli.converting import find_original
    from app.models import ResolvedModel
    from quant.convert.checkpoint import is_checkpoint
    from quant.files.source import open_source

    wanted = certificate.source.sha256
    origin = found.manifest.source.origin if found.manifest else ""
    where = Path(origin) if Path(origin).is_absolute() else None
    stored = None if given is not None else _stored_source(store, wanted)
    with ExitStack() as stack:
        if given is not None:
            model = stack.enter_context(find_original(front, settings, given))[1]
        elif stored is not None:
            yield ResolvedModel(stored.name, store.paths(stored), stored)
            return
        elif where is not None and (where.is_file() or is_checkpoint(where)):
            model = stack.enter_context(find_original(front, settings, origin))[1]
        else:
            raise WrongUse(
                f"the source of {found.name}, {certificate.source.name}, is not in the store",
                next_command=again(front, "--source", "PATH"),
            )
        with open_source(model.paths) as source, front.out.progress("reading the source"):
            if source.sha256() != wanted:
                raise WrongUse(
                    f"{model.paths[0]} is not what {found.name} was made of: its sha256 is not {wanted[0]}",
                    next_command=again(front, "--source", "PATH"),
                )
        yield model


def _stored_source(store: Store, wanted: tuple[str, ...]) -> Manifest | None:
    for manifest in store.list():
        digests = tuple(
            file.digest.removeprefix("sha256-") for file in manifest.files if file.role in ("model", "part")
        )
        if digests == wanted:
            return manifest
    return None


def _request(
    front: Front,
    settings: Settings,
    certificate: Certificate,
    asked: Asked,
    source: tuple[Path, ...],
    calibration: str | None,
    imatrix: str | None,
    folder: Path,
) -> QuantizeRequest:
    """The request that the certificate is of, without judging: that changes no tensor.

    The figures' room does: a file of a given size has that much less for its tensors.
    """
    from app.cli.again import again
    from app.cli.quantize import DEFAULT_TARGET
    from app.cli.quantize_imatrix import imatrix_again
    from app.cli.quantize_texts import BUILTIN, calibration_texts
    from app.cli.quantizing import MOMENT_BYTES
    from quant.certificate.first import domains
    from quant.evaluation.result import EvaluationText
    from quant.request import QuantizeRequest, Target
    from runtime.hardware import usable_cores

    texts = (
        calibration_texts(front, settings, calibration or BUILTIN, asked.options.calibration_tokens)
        if certificate.calibration
        else ()
    )
    known = {(text.name, text.sha256) for text in certificate.calibration}
    if {(text.name, text.sha256) for text in domains(texts)} != known:
        raise WrongUse(
            "the calibration texts are not those of the certificate; give the file that was calibrated with",
            next_command=again(front, "--calib", "FILE"),
        )
    found = imatrix_again(front, certificate, imatrix)
    options = asked.options
    target, overrides = asked.target, asked.overrides
    if target.mixture is None:  # chosen by measuring, in the memory of another day: it stands in the file
        target, overrides = Target(DEFAULT_TARGET), _as_stored(certificate)
    return QuantizeRequest(
        source=source,
        target=target,
        out=folder / "rebuilt.gguf",
        tool=certificate.tool,
        overrides=overrides,
        calibration=texts,
        imatrix=found,
        calibration_tokens=options.calibration_tokens,
        evaluation=tuple(EvaluationText(text.name, "") for text in certificate.evaluation),
        evaluation_chunks=options.evaluation_chunks,
        judge=False,
        context_tokens=options.context_tokens,
        expert_moments=options.expert_moments,
        moment_bytes=options.moment_bytes or MOMENT_BYTES,
        feedback=options.feedback,
        activations=options.activations,
        seed=certificate.seed,
        jobs=settings.threads or usable_cores().physical,
        memory_bytes=settings.ram,
    )


def _as_stored(certificate: Certificate) -> tuple[Override, ...]:
    """Every tensor's format, as a choice of its own."""
    from quant.allocation.recipe import KEEP, just

    return tuple(
        just(tensor.name, KEEP if tensor.encoder == "copied" else tensor.type.lower())
        for tensor in certificate.tensors
    )


def _reason(expected: Certificate, found: Certificate) -> str:
    from app.version import VERSION

    if expected.data_sha256 == found.data_sha256:
        return ""
    if expected.source.sha256 != found.source.sha256:
        return "the source was changed since"
    if expected.tool != VERSION:
        return f"it was made by localq {expected.tool}, this is {VERSION}"
    if expected.statistics_sha256 != found.statistics_sha256:
        return "calibration measured other statistics: llama.cpp computes them as the processor allows"
    return "the same statistics gave other weights: this should not happen; please report it"
