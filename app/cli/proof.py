"""One real run of a file that was fitted to a memory: does it keep to it, and how fast is it?"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from app.cli.front import Front, GenerationLike

if TYPE_CHECKING:
    from app.cli.quantizing import Made
    from app.settings import Settings
    from app.store import Store
    from quant.allocation.fit import Fit
    from quant.allocation.running import Proof, Running
    from runtime.engine.config import EngineConfig
    from runtime.gguf import GgufModel

PROMPT_TOKENS, OUTPUT_TOKENS = 512, 48


def prove(front: Front, store: Store, settings: Settings, made: Made, fit: Fit) -> Made:
    """``made`` with what a run of it took in its certificate; what was foreseen wrongly is learned from.

    Nothing is proved, and a warning says so, where it cannot be run now.
    """
    import msgspec

    from quant.allocation.learned import keep_learned
    from quant.certificate.document import to_json
    from quant.publication import rewrite_certificate
    from runtime.gguf import open_model

    running = made.certificate.running
    assert running is not None
    model = open_model(made.paths)
    proof = _run(front, settings, model, running, fit)
    if proof is None:
        return made
    certificate = msgspec.structs.replace(made.certificate, proof=proof)
    if made.stored:
        store.keep_certificate(store.get(made.name), to_json(certificate))
    else:
        rewrite_certificate(made.paths[0], certificate)
    learned = fit.learned.with_run(
        nats=_nats_ratio(running, made),
        peak=proof.peak_bytes / running.peak_bytes,
        speed=proof.tokens_per_second / proof.foreseen_tokens_per_second,
    )
    with suppress(OSError):  # what is learned is a help, no promise
        keep_learned(store.home, model.header.architecture, learned)
    _warn(front, running, proof)
    return replace(made, certificate=certificate)


def _nats_ratio(running: Running, made: Made) -> float | None:
    """Of the weights alone: the cache was f16 where they were judged.

    None where too little was foreseen, or with probes: that teaches nothing of models without.
    """
    from quant.allocation.joint import CACHE_NATS
    from quant.allocation.learned import LEAST_NATS

    foreseen = running.kl - CACHE_NATS[running.kv_type]
    figures = made.certificate.figures
    if made.certificate.probed or figures is None or min(foreseen, figures.kl_mean) < LEAST_NATS:
        return None
    return figures.kl_mean / foreseen


def _run(front: Front, settings: Settings, model: GgufModel, running: Running, fit: Fit) -> Proof | None:
    """Loads the model as it is meant to be run, reads a prompt and writes a little."""
    from app.cli.answer import collect
    from app.cli.fitting import speeds_here
    from app.cli.measure import prompts, run_of
    from quant.allocation.running import Proof
    from runtime.budget import plan_memory
    from runtime.engine.messages import SamplingParams
    from runtime.errors import EngineError
    from runtime.hardware import this_machine

    plan = plan_memory(model, _config(settings, model, running), this_machine())
    speeds = speeds_here(settings).scaled(fit.learned.speed)
    foreseen = 1 / speeds.token_seconds(model.headers, plan.kv_cache)
    try:
        with front.out.progress("proving it"), front.open_engine(plan.config, None) as engine:
            engine.start()

            def start(prompt: tuple[int, ...], tokens: int) -> GenerationLike:
                sampling = SamplingParams(temperature=0.0)
                options: dict[str, Any] = {"sampling": sampling, "ignore_eos": True, "cache_prompt": False}
                return engine.submit(prompt, max_tokens=tokens, **options)

            length = min(PROMPT_TOKENS, max(running.context_tokens - OUTPUT_TOKENS, 1))
            (prompt,) = prompts(engine, length, 1)
            answer = collect(partial(start, prompt, OUTPUT_TOKENS), lambda _text: None)
            peak = engine.peak_memory_bytes()
    except EngineError as error:
        front.out.warn(f"it could not be run to prove the plan: {str(error).splitlines()[0]}")
        return None
    return Proof(
        peak_bytes=peak,
        tokens_per_second=run_of(answer.finished).decode_tokens_per_second,
        foreseen_tokens_per_second=foreseen,
    )


def _config(settings: Settings, model: GgufModel, running: Running) -> EngineConfig:
    from runtime.budget import best_mmap
    from runtime.engine.config import EngineConfig
    from runtime.hardware import this_machine

    machine = this_machine()
    return EngineConfig(
        model_paths=tuple(str(path) for path in model.paths),
        context_tokens=running.context_tokens,
        kv_type=running.kv_type,
        ubatch_tokens=running.batch_tokens,
        threads=settings.threads,
        mmap=best_mmap(model.headers, machine.features, machine.packs),
    )


def _warn(front: Front, running: Running, proof: Proof) -> None:
    from app.cli.text import format_bytes

    over = proof.peak_bytes - running.budget_bytes
    if over > 0:
        front.out.warn(
            f"it took {format_bytes(proof.peak_bytes)}, {format_bytes(over)} more than it was to take; the "
            "next plan for this architecture leaves so much more room"
        )
