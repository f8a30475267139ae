"""``localq bench --kernels``: how fast this machine multiplies, type by type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.cli.front import Front

if TYPE_CHECKING:
    from runtime.engine.kernel_speed import KernelSpeeds


def bench_products(front: Front, threads: int | None) -> None:
    """Measure every type in a process of its own, and print the table."""
    import msgspec
    import psutil

    from app.cli.checks import check_load
    from app.cli.examine import busy_processes
    from runtime.engine.job import run_job
    from runtime.engine.kernel_speed import MODULE, KernelSpeeds, SpeedProgress, SpeedRequest
    from runtime.hardware import usable_cores

    busy = busy_processes()
    cores = usable_cores()
    request = SpeedRequest(threads=front.settings(threads=threads).threads or cores.physical)
    with front.out.progress("measuring products") as progress:

        def show(message: SpeedProgress) -> None:
            progress.update(message.done / message.types)

        speeds = run_job(MODULE, request, progress=SpeedProgress, result=KernelSpeeds, on_progress=show)
    disturbance = check_load(busy, psutil.getloadavg()[0], cores)
    if disturbance.status != "ok":
        front.out.warn(f"the numbers are too low: {disturbance.detail}")
    document = msgspec.to_builtins(speeds)
    front.out.result(document, *blocks(speeds), quiet=[f"{t.type} {t.rate / 1e9:.1f}" for t in speeds.types])


def blocks(speeds: KernelSpeeds) -> tuple[Any, ...]:
    """A row for each type."""
    from app.cli.output import Fields, Table

    rows = [
        (
            found.type,
            f"{found.bits:.2f}",
            f"{found.rate / 1e9:.1f}",
            f"{found.rate / found.read_rate:.0%}",
            f"{found.ggml_rate / 1e9:.1f}",
            f"{found.ratio:.2f}",
        )
        for found in speeds.types
    ]
    header = ("TYPE", "BITS", "GB/S", "OF MEMORY", "LLAMA.CPP", "RATIO")
    reads = sorted(found.read_rate for found in speeds.types)
    facts = (
        ("kernels", f"{speeds.isa}, {speeds.threads} threads"),
        ("memory", f"{reads[0] / 1e9:.1f} to {reads[-1] / 1e9:.1f} GB/s"),
    )
    return Table(header, rows, right=frozenset({1, 2, 3, 4, 5})), "", Fields(facts)
