"""Which files of a repository make up the model that a reference means. Pure: looks at names and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import NeedsConversion, NoSuchChoice
from app.hub.api import RemoteFile, RemoteRepo
from app.hub.reference import HubReference

PREFERRED: Final = (
    *("Q4_K_M", "Q4_K_S", "Q4_K", "UD-Q4_K_XL", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1", "MXFP4"),
    *("Q5_K_M", "Q5_K_S", "Q5_0", "Q6_K", "Q8_0", "Q3_K_M", "IQ3_M", "BF16", "F16", "F32"),
)
"""Where a reference names no quantization, the first of these that the repository has."""
_MMPROJ_PREFERRED: Final = ("F16", "BF16", "Q8_0", "F32")
TEMPLATE: Final = "chat_template.jinja"

_QUANT = re.compile(
    r"(?:^|[-._/ ])((?:UD-)?(?:I?Q[1-8](?:_[A-Z0-9]{1,3}){0,3}|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4"
    r"|BF16|F16|FP16|F32|FP32))(?=[-._/ ]|$)",
    re.IGNORECASE,
)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A model in a repository: one GGUF, or the parts of a split one in their order."""

    label: str
    """Its quantization, or what else tells it from the others."""
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Choice:
    """What a reference means."""

    repo: RemoteRepo
    model: Candidate
    mmproj: RemoteFile | None
    template: RemoteFile | None

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All files to fetch: the model's first."""
        return (*self.model.files, *(file for file in (self.mmproj, self.template) if file))


def choose(reference: HubReference, repo: RemoteRepo) -> Choice:
    """The files that ``reference`` means in ``repo``.

    Raises :class:`NoSuchChoice`, or :class:`NeedsConversion` where there are weights, but no GGUF.
    """
    models = candidates(repo.files)
    if not models:
        raise _nothing(repo)
    model = _by_file(reference, repo, models) if reference.file else _by_quant(reference, repo, models)
    folder = model.files[0].path.rpartition("/")[0]
    return Choice(repo, model, _mmproj(repo.files, folder), _template(repo.files, folder))


def candidates(files: Iterable[RemoteFile]) -> list[Candidate]:
    """The models among the files, by their sizes. Projectors and importance matrices are none."""
    groups: dict[str, dict[int, RemoteFile]] = {}
    for file in files:
        name = file.name.lower()
        if not file.is_gguf or "mmproj" in name or "imatrix" in name:
            continue
        part = _PART.fullmatch(file.path)
        key = f"{part['stem']}-of-{part['count']}" if part else file.path
        groups.setdefault(key, {})[int(part["number"]) if part else 0] = file
    found = []
    for parts in groups.values():
        ordered = tuple(parts[number] for number in sorted(parts))
        found.append(Candidate(quant_of(ordered[0].path) or ordered[0].path, ordered))
    return sorted(found, key=lambda model: (model.size, model.files[0].path))


def quant_of(path: str) -> str | None:
    """The quantization that a file's name tells, or that of its folder: ``Q4_K_M``, ``IQ3_XXS``, ``BF16``."""
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", path, flags=re.IGNORECASE)
    found = _QUANT.findall(stem)
    if not found:
        return None
    return str(found[-1]).upper().replace("FP16", "F16").replace("FP32", "F32")


def _by_file(reference: HubReference, repo: RemoteRepo, models: Sequence[Candidate]) -> Candidate:
    for model in models:
        if any(file.path == reference.file for file in model.files):
            return _complete(repo, model)
    raise NoSuchChoice(
        repo.repo,
        f"there is no model file {reference.file!r}",
        _labels(models),
        next_command=_pull(repo, models),
    )


def _by_quant(reference: HubReference, repo: RemoteRepo, models: Sequence[Candidate]) -> Candidate:
    if reference.quant is None:
        if len(models) == 1:
            return _complete(repo, models[0])
        for quant in PREFERRED:
            named = [model for model in models if model.label == quant]
            if named:
                return _only(repo, named, quant)
        raise NoSuchChoice(
            repo.repo, "it has several models; name one", _labels(models), next_command=_pull(repo, models)
        )
    wanted = reference.quant.upper().replace("FP16", "F16").replace("FP32", "F32")
    named = [model for model in models if model.label.upper() == wanted] or [
        model for model in models if model.label.upper() == f"UD-{wanted}"
    ]
    if not named:
        raise NoSuchChoice(
            repo.repo,
            f"there is no {reference.quant}",
            _labels(models),
            next_command=_pull(repo, models),
        )
    return _only(repo, named, wanted)


def _only(repo: RemoteRepo, named: Sequence[Candidate], quant: str) -> Candidate:
    """The one of that quantization; of the same model whole and in parts, the whole one."""
    whole = [model for model in named if len(model.files) == 1]
    if len(named) > 1 and len(whole) == 1:
        return whole[0]
    if len(named) > 1:
        paths = tuple(model.files[0].path for model in named)
        raise NoSuchChoice(
            repo.repo,
            f"several files are {quant}; name one",
            paths[:8],
            next_command=f"localq pull {_quoted(f'{repo.repo}/{paths[0]}')}",
        )
    return _complete(repo, named[0])


def _complete(repo: RemoteRepo, model: Candidate) -> Candidate:
    """``model``, if none of its parts is missing."""
    match = _PART.fullmatch(model.files[0].path)
    if match is not None:
        numbers = [int(found["number"]) for file in model.files if (found := _PART.fullmatch(file.path))]
        if numbers != list(range(1, int(match["count"]) + 1)):
            raise NoSuchChoice(
                repo.repo,
                f"{model.label} is split in {int(match['count'])} parts, of which {len(numbers)} are there",
            )
    return model


def _mmproj(files: Iterable[RemoteFile], folder: str) -> RemoteFile | None:
    """The projector beside the model, or at the top; of several the one in F16."""
    found = [
        file
        for file in files
        if file.is_gguf and "mmproj" in file.name.lower() and file.path.rpartition("/")[0] in ("", folder)
    ]
    if not found:
        return None
    order = {quant: index for index, quant in enumerate(_MMPROJ_PREFERRED)}
    return min(found, key=lambda file: (order.get(quant_of(file.path) or "", len(order)), file.path))


def _template(files: Iterable[RemoteFile], folder: str) -> RemoteFile | None:
    beside = f"{folder}/{TEMPLATE}" if folder else TEMPLATE
    found = {file.path: file for file in files}
    return found.get(beside) or found.get(TEMPLATE)


def _nothing(repo: RemoteRepo) -> NoSuchChoice | NeedsConversion:
    if any(file.path.lower().endswith(".safetensors") for file in repo.files):
        # The one place where a repository without GGUF is turned away.
        words = repo.repo.rpartition("/")[2]
        return NeedsConversion(repo.repo, next_command=f"localq search {words} --gguf")
    refused = "".join(f"; {name!r} is left out: {reason}" for name, reason in repo.refused[:3])
    pickles = any(file.path.lower().endswith((".bin", ".pt", ".pth")) for file in repo.files)
    reason = "its weights are pickle files, which are never opened" if pickles else "it has no model as GGUF"
    return NoSuchChoice(repo.repo, reason + refused, next_command="localq search WORDS --gguf")


def _labels(models: Sequence[Candidate]) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(model.label for model in models))
    return labels if len(labels) <= 40 else (*labels[:40], f"and {len(labels) - 40} more")


def _pull(repo: RemoteRepo, models: Sequence[Candidate]) -> str:
    """A command that names one of them: the largest of at most five bits a weight, by the usual names."""
    for quant in PREFERRED:
        if any(model.label == quant for model in models):
            return f"localq pull {repo.repo}:{quant}"
    return f"localq pull {_quoted(f'{repo.repo}/{models[0].files[0].path}')}"


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
