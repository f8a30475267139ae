"""``localq doctor --fix``: runs what the findings name, in the open."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping

from app.cli.checks import Finding
from app.cli.front import Front
from app.cli.remedies import Command
from app.errors import FixFailed

STDERR = 2
"""Stdout is for doctor's own result."""


def needed(findings: Iterable[Finding]) -> list[Command]:
    """The commands that mend the findings, each once, in their order."""
    return list(dict.fromkeys(command for finding in findings for command in finding.fix))


def outside(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for programs of the system: without the search path for libraries that are carried."""
    found = dict(environment)
    if getattr(sys, "frozen", False):
        found.pop("LD_LIBRARY_PATH", None)
        if before := found.pop("LD_LIBRARY_PATH_ORIG", ""):
            found["LD_LIBRARY_PATH"] = before
    return found


def mend(front: Front, commands: Iterable[Command]) -> None:
    """Run ``commands``, their output on stderr; the first that fails ends it. Raises FixFailed."""
    for command in commands:
        shown = shlex.join(command)
        front.out.note(f"running: {shown}")
        try:
            code = subprocess.run(command, stdout=STDERR, env=outside(os.environ), check=False).returncode
        except OSError as error:
            raise FixFailed(shown, error.strerror or str(error)) from error
        if code:
            raise FixFailed(shown, f"exit code {code}" if code > 0 else f"ended by signal {-code}")
