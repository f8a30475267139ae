"""``localq bench``: how fast a model runs here, and what it takes."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from app.cli import options
from app.cli.front import Front

if TYPE_CHECKING:
    from app.cli.loading import Loaded
    from app.cli.measure import Run
    from runtime.hardware import BandwidthReport


@click.command("bench")
@click.argument("model", required=False)
@click.option("--kernels", is_flag=True, help="Measure products of every tensor type instead of a model.")
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1, 1 << 20),
    default=512,
    show_default=True,
    metavar="N",
    help="Length of the prompt.",
)
@click.option(
    "--output-tokens",
    type=click.IntRange(2, 1 << 20),
    default=128,
    show_default=True,
    metavar="N",
    help="Length of the answer.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    metavar="N",
    help="How often to measure; the medians count.",
)
@options.engine_options
@options.output_options
@options.pass_front
def command(
    front: Front,
    model: str | None,
    kernels: bool,
    prompt_tokens: int,
    output_tokens: int,
    repetitions: int,
    context: int | None,
    threads: int | None,
    kv: str | None,
    ram: int | None,
    gpu_layers: Any,
    force: bool,
) -> None:
    """Measure prefill and decode speed of MODEL, and its peak memory against the plan's; or, with
    --kernels, how fast this machine multiplies with matrices of every type.

    Bytes read are those of the weights and of the KV cache that a token needs, times tokens per second:
    beside the bandwidth that this machine reads memory with, they say how much of the machine is used. A
    table of embeddings does not count, unless it is the output matrix too; of experts those count that a
    token uses.

    With --kernels: gigabytes of weights that a product with one column reads in a second, by localq's kernels
    and by those of llama.cpp, and the share of what memory gives.

    Other programs disturb the measurement: a warning names those that compute, and 'busy' in --json.
    """
    import psutil

    from app.cli.again import again
    from app.cli.checks import check_load
    from app.cli.examine import busy_processes
    from app.cli.loading import load
    from app.cli.products import bench_products
    from app.errors import WrongUse
    from runtime.hardware import memory_bandwidth, usable_cores

    if kernels:
        if model is not None:
            raise WrongUse("--kernels measures no model", next_command="localq bench --kernels")
        bench_products(front, threads)
        return
    if model is None:
        raise WrongUse("give a model to measure, or --kernels", next_command="localq list")
    needed = prompt_tokens + output_tokens
    if context is not None and context < needed:
        raise WrongUse(
            f"{prompt_tokens} tokens of prompt and {output_tokens} of answer need --ctx {needed}",
            next_command=again(front, "--ctx", str(needed)),
        )
    settings = front.settings(context=context or needed, threads=threads, kv=kv, ram=ram)
    with front.out.progress("measuring the memory's bandwidth"):
        busy = busy_processes()
        bandwidth = memory_bandwidth(settings.threads or None)
    with load(front, settings, model, gpu_layers=gpu_layers, force=force, least_context=needed) as loaded:
        runs = _measure(front, loaded, prompt_tokens, output_tokens, repetitions)
        report = _report(loaded, runs, bandwidth, prompt_tokens, output_tokens)
    report["busy"] = [asdict(process) for process in busy]
    disturbance = check_load(busy, psutil.getloadavg()[0], usable_cores())
    if disturbance.status != "ok":
        front.out.warn(f"the numbers are too low: {disturbance.detail}")
    front.out.result(report, *_blocks(report), quiet=[f"{report['decode_tokens_per_second']:.2f}"])


def _measure(
    front: Front, loaded: Loaded, prompt_tokens: int, output_tokens: int, repetitions: int
) -> list[Run]:
    from app.cli.answer import collect
    from app.cli.front import GenerationLike
    from app.cli.measure import prompts, run_of
    from runtime.engine.messages import SamplingParams

    def start(prompt: tuple[int, ...], tokens: int) -> GenerationLike:
        return loaded.engine.submit(
            prompt,
            sampling=SamplingParams(temperature=0.0),
            max_tokens=tokens,
            ignore_eos=True,
            cache_prompt=False,
        )

    runs = []
    with front.out.progress("measuring") as progress:
        for number, prompt in enumerate(prompts(loaded.engine, prompt_tokens, repetitions + 1)):
            # The first one only warms up: it reads the weights from the disk.
            tokens = output_tokens if number else 2
            answer = collect(partial(start, prompt, tokens), lambda _text: None)
            if answer.cancelled:
                raise click.Abort
            if number:
                runs.append(run_of(answer.finished))
            progress.update(number / repetitions)
    return runs


def _report(
    loaded: Loaded, runs: list[Run], bandwidth: BandwidthReport, prompt_tokens: int, output_tokens: int
) -> dict[str, Any]:
    from app.cli.measure import cache_bytes_per_token, median, weight_bytes_per_token
    from app.version import VERSION
    from runtime.gguf import summarize

    decode = median(run.decode_tokens_per_second for run in runs)
    weights = weight_bytes_per_token(loaded.model)
    cache = cache_bytes_per_token(loaded.plan, prompt_tokens, output_tokens)
    return {
        "model": loaded.name,
        "type": summarize(loaded.model.header).file_type,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "repetitions": len(runs),
        "prefill_tokens_per_second": median(run.prefill_tokens_per_second for run in runs),
        "decode_tokens_per_second": decode,
        "first_token_seconds": median(run.first_token_seconds for run in runs),
        "decode_gb_per_second": decode * (weights + cache) / 1e9,
        "read_bandwidth_gb_per_second": bandwidth.bytes_per_second / 1e9,
        "weight_bytes_per_token": weights,
        "cache_bytes_per_token": cache,
        "peak_memory_bytes": loaded.engine.peak_memory_bytes(),
        "predicted_peak_bytes": loaded.plan.total,
        "threads": loaded.info.threads,
        "isa": loaded.info.kernels or None,
        "context_tokens": loaded.info.context_tokens,
        "kv_type": loaded.plan.config.kv_type,
        "load_seconds": loaded.info.load_seconds,
        "localq": VERSION,
        "runs": [asdict(run) for run in runs],
    }


def _blocks(report: dict[str, Any]) -> tuple[Any, ...]:
    from app.cli.output import Fields, Table
    from app.cli.text import format_bytes

    rows = []
    for name, key, tokens in (
        ("prefill tok/s", "prefill_tokens_per_second", report["prompt_tokens"]),
        ("decode tok/s", "decode_tokens_per_second", report["output_tokens"]),
    ):
        values = [run[key] for run in report["runs"]]
        rows.append((name, str(tokens), f"{report[key]:.1f}", f"{min(values):.1f}", f"{max(values):.1f}"))
    used, possible = report["decode_gb_per_second"], report["read_bandwidth_gb_per_second"]
    peak, predicted = report["peak_memory_bytes"], report["predicted_peak_bytes"]
    facts = (
        ("model", f"{report['model']} ({report['type']}), {report['kv_type']} keys and values"),
        ("threads", f"{report['threads']}, {report['isa'] or 'with the kernels of llama.cpp'}"),
        ("reads", f"{used:.1f} GB/s of the {possible:.1f} GB/s that memory gives ({used / possible:.0%})"),
        (
            "peak memory",
            f"{format_bytes(peak)}, planned {format_bytes(predicted)} ({predicted / peak - 1:+.1%})",
        ),
    )
    header = ("", "TOKENS", "MEDIAN", "MIN", "MAX")
    return Table(header, rows, right=frozenset({1, 2, 3, 4})), "", Fields(facts)
