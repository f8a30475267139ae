"""Models on the Hub with a verdict on each: whether this machine has the memory for it, and in which form."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from app.errors import HubError
from app.hub.api import FoundRepo, Hub, RemoteFile, RemoteRepo
from app.hub.catalog import Entry
from app.hub.choose import candidates
from app.hub.fit import plan_remote
from app.hub.foresight import Foresight, foresee
from app.hub.headers import read_config, skim_remote
from app.hub.reference import HubReference
from app.hub.sketch import sketch_config, sketch_gguf
from app.settings import Settings
from quant.allocation.speed import Speeds
from runtime.budget import MemoryPlan
from runtime.errors import LocalqError
from runtime.gguf import GgufHeader
from runtime.hardware import Machine
from runtime.units import format_bytes

SORTS: Final = {
    "downloads": "downloads",
    "likes": "likes",
    "trending": "trending_score",
    "updated": "last_modified",
    "created": "created_at",
}
"""What a person says, and what huggingface_hub calls it."""
UNQUANTIZED: Final = ("F32", "F16", "BF16")
BITS: Final = ((8, 8.5), (6, 6.6), (5, 5.7), (4, 4.85), (3, 3.9), (2, 2.8))
"""What people call a quantization of a model, and how many bits a weight it has with all it keeps wider."""
_AT_ONCE: Final = 6


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A repository, and what of it would fit here. Texts come from the Hub."""

    repo: str
    license: str | None
    gated: bool
    downloads: int
    likes: int
    gguf: bool
    architecture: str | None
    parameters: int | None
    context: int | None
    quant: str | None
    """The largest that fits; where none does, the smallest."""
    size_bytes: int | None
    """Of that one's weights."""
    needed_bytes: int | None
    """Memory that it takes when it runs."""
    fits: bool
    verdict: str
    """The same in words."""
    converts: bool
    """Whether localq makes the file itself: there are safetensors, or weights that are not quantized."""
    fetched_bytes: int | None
    """What is fetched for it."""
    nats: float | None
    """Foreseen divergence from the original, of the best file of that size that localq would make."""
    tokens_per_second: float | None
    """Foreseen for this machine."""


@dataclass(frozen=True)
class _Form:
    """A size that a model can be had in."""

    label: str
    size: int
    converted: bool = False


def search(
    hub: Hub,
    words: str,
    machine: Machine,
    settings: Settings,
    speeds: Speeds,
    *,
    gguf: bool,
    sort: str,
    limit: int,
    progress: Callable[[int, int], None],
) -> list[Result]:
    """At most ``limit`` repositories whose names hold ``words``, in the order of ``sort``.

    What cannot be judged says why in its verdict. ``progress`` gets repositories looked at, and to look at.
    """
    found = hub.search(words, gguf=gguf, sort=SORTS[sort], limit=limit)
    results: list[Result] = []
    with ThreadPoolExecutor(_AT_ONCE, "search") as pool:
        try:
            for result in pool.map(lambda repo: judge(hub, repo, machine, settings, speeds), found):
                results.append(result)
                progress(len(results), len(found))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def judge_entry(hub: Hub, entry: Entry, machine: Machine, settings: Settings, speeds: Speeds) -> Result:
    """A model of the catalog: its makers' weights, or, where those are for members only, its GGUF."""
    found = FoundRepo(entry.original, entry.license, 0, 0, False, False, None, None, None)
    result = judge(hub, found, machine, settings, speeds)
    if result.size_bytes is None:
        result = judge(hub, replace(found, repo=entry.repo, gguf=True), machine, settings, speeds)
    return result


def judge(hub: Hub, found: FoundRepo, machine: Machine, settings: Settings, speeds: Speeds) -> Result:
    """One repository. What cannot be judged says why in its verdict."""
    try:
        repo = hub.repo(HubReference(found.repo))
        forms, sketch = _forms(hub, found, repo)
        plans = [(form, plan_remote([sketch(form.size)], machine, settings)) for form in forms]
    except LocalqError as error:
        reason = "gated" if found.gated and isinstance(error, HubError) else _short(error)
        return _result(found, None, None, f"unknown: {reason}")
    if not plans:
        return _result(found, None, None, "unknown: no weights that localq reads")
    form, plan = next((pair for pair in plans if pair[1].fits), plans[-1])
    if not plan.fits:
        needed, available = format_bytes(plan.total), format_bytes(plan.available)
        return _result(found, form, plan, f"no: {form.label} needs {needed} of {available}")
    bound = None if form.converted else form.size
    parameters = repo.parameters or found.parameters
    foresight = foresee(
        sketch(form.size), parameters, machine, speeds, context=settings.context, file_bytes=bound
    )
    verdict = f"{form.label}, {plan.config.context_tokens} tokens"
    verdict += ", after conversion" if form.converted else ""
    whole = sum(file.size for file in repo.files if _is_safetensors(file))
    fetched = whole or forms[0].size if form.converted else form.size
    return _result(found, form, plan, verdict, parameters, fetched, foresight)


def _forms(hub: Hub, found: FoundRepo, repo: RemoteRepo) -> tuple[list[_Form], Callable[[int], GgufHeader]]:
    """The sizes that the model can be had in, largest first, and its outline for a size."""
    models = candidates(repo.files)
    quantized = [model for model in models if model.label not in UNQUANTIZED]
    parameters = repo.parameters or found.parameters
    if models:
        raw = skim_remote(hub, repo, models[0].files[0])
        forms = [_Form(model.label, model.size) for model in reversed(quantized or models)]
        if not quantized and parameters is not None:  # what is whole can be made smaller here
            forms += _smaller(parameters)
        return forms, lambda size: sketch_gguf(raw, size)
    config = next((file for file in repo.files if file.path == "config.json"), None)
    if parameters is None or config is None or not any(map(_is_safetensors, repo.files)):
        return [], lambda size: sketch_config({}, size)
    told = read_config(hub, repo, config)
    return _smaller(parameters), lambda size: sketch_config(told, size)


def _smaller(parameters: int) -> list[_Form]:
    """What localq can make of so many weights."""
    return [_Form(f"{bits}-bit", int(parameters * exact / 8), converted=True) for bits, exact in BITS]


def _is_safetensors(file: RemoteFile) -> bool:
    return file.path.lower().endswith(".safetensors")


def _short(error: Exception) -> str:
    return str(error).partition(";")[0].partition("\n")[0][:80]


def _result(
    found: FoundRepo,
    form: _Form | None,
    plan: MemoryPlan | None,
    verdict: str,
    parameters: int | None = None,
    fetched: int | None = None,
    foresight: Foresight | None = None,
) -> Result:
    return Result(
        repo=found.repo,
        license=found.license,
        gated=found.gated,
        downloads=found.downloads,
        likes=found.likes,
        gguf=found.gguf,
        architecture=found.architecture,
        parameters=found.parameters or parameters,
        context=found.context or (plan.trained_context if plan else None) or None,
        quant=form.label if form else None,
        size_bytes=form.size if form else None,
        needed_bytes=plan.total if plan else None,
        fits=plan.fits if plan else False,
        verdict=verdict,
        converts=form.converted if form else False,
        fetched_bytes=fetched,
        nats=foresight.nats if foresight else None,
        tokens_per_second=foresight.tokens_per_second if foresight else None,
    )
