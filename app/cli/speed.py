"""How fast a model writes here, in a few seconds, and what a token costs in energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.cli.front import Front
from app.settings import Settings

PROMPT_TOKENS = 32
OUTPUT_TOKENS = 64


@dataclass(frozen=True)
class Speed:
    """Of one model."""

    decode_tokens_per_second: float
    joules_per_token: float | None
    """None where the machine has no counter."""


def measure_speed(front: Front, settings: Settings, paths: Sequence[Path]) -> Speed | None:
    """Loads the model and lets it write; None where it does not fit into memory, or cannot be run.

    Raises nothing that only says that this model does not run: its quality has been measured by then.
    """
    from functools import partial

    from app.cli.answer import collect
    from app.cli.front import GenerationLike
    from app.cli.loading import plan_model
    from app.cli.measure import prompts, run_of
    from runtime.engine.messages import SamplingParams
    from runtime.errors import EngineError
    from runtime.gguf import open_model
    from runtime.hardware import this_machine
    from runtime.hardware.energy import EnergyMeter

    wanted = front.settings(
        context=PROMPT_TOKENS + OUTPUT_TOKENS, threads=settings.threads or None, ram=settings.ram
    )
    plan = plan_model(open_model(paths), wanted, this_machine(ram=settings.ram))
    if not plan.fits:
        return None

    try:
        with front.out.progress("measuring the speed"), front.open_engine(plan.config, None) as engine:
            engine.start()

            def start(prompt: tuple[int, ...], tokens: int) -> GenerationLike:
                return engine.submit(
                    prompt,
                    sampling=SamplingParams(temperature=0.0),
                    max_tokens=tokens,
                    ignore_eos=True,
                    cache_prompt=False,
                )

            first, second = prompts(engine, PROMPT_TOKENS, 2)
            collect(partial(start, first, 2), lambda _text: None)  # reads the weights from the disk
            with EnergyMeter() as energy:
                answer = collect(partial(start, second, OUTPUT_TOKENS), lambda _text: None)
    except EngineError as error:
        front.out.warn(f"the speed could not be measured: {str(error).splitlines()[0]}")
        return None
    run = run_of(answer.finished)
    tokens = answer.finished.usage.output_tokens
    joules = energy.joules / tokens if energy.joules is not None and tokens else None
    return Speed(run.decode_tokens_per_second, joules)
