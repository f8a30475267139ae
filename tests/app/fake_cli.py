"""``localq`` with an engine without a model, as a process: ``python -m tests.app.fake_cli run ...``."""

from __future__ import annotations

from app.cli.front import Front
from app.cli.main import cli
from tests.app.fake_engine import FakeEngine

if __name__ == "__main__":
    cli.main(prog_name="localq", obj=Front(open_engine=FakeEngine))
