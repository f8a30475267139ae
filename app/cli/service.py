"""A user service that runs ``localq serve``: a systemd unit, or a launchd agent."""

from __future__ import annotations

import plistlib
import shlex
import sys
from pathlib import Path

from app.cli.front import Front
from app.errors import WrongUse

LABEL = "localq"


def install(front: Front) -> None:
    """Write the service that runs this very command, and say how to start it. Raises WrongUse."""
    words = [word for word in front.arguments if word != "--install-service"]
    if any(word.startswith("--api-key") and "file" not in word for word in words):
        raise WrongUse(
            "a key in a service's file could be read by others; use --api-key-file, or localq key new",
            next_command="localq key new",
        )
    command = [sys.executable, "-m", "app.cli.main", *absolute(words)]
    if sys.platform == "darwin":
        path = Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        content, start = launch_agent(command), f"launchctl load -w {shlex.quote(str(path))}"
        end = f"launchctl unload -w {shlex.quote(str(path))}"
    elif sys.platform.startswith("linux"):
        path = Path.home() / ".config" / "systemd" / "user" / f"{LABEL}.service"
        content, start = systemd_unit(command).encode(), f"systemctl --user enable --now {LABEL}"
        end = f"systemctl --user disable --now {LABEL}"
    else:
        raise WrongUse("services are written for Linux and macOS only")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)
    front.out.result(
        {"path": str(path), "start": start, "stop": end},
        f"wrote {path}",
        f"start it:  {start}",
        f"end it:    {end}",
        quiet=[str(path)],
    )


def absolute(words: list[str]) -> list[str]:
    """The words, with paths that mean the same wherever the service runs."""
    return [str(Path(word).absolute()) if Path(word).is_file() else word for word in words]


def systemd_unit(command: list[str]) -> str:
    """A unit for ``systemd --user``. It is ended by SIGTERM, and has time for the answers under way."""
    return f"""\
[Unit]
Description=localq: language models of this machine
After=network.target

[Service]
ExecStart={" ".join(map(_systemd_quoted, command))}
Restart=on-failure
RestartSec=2
TimeoutStopSec=20
NoNewPrivileges=true
PrivateTmp=true
UMask=0077

[Install]
WantedBy=default.target
"""


def _systemd_quoted(word: str) -> str:
    """A word as systemd reads it: percent signs and dollars are doubled, quotes and backslashes escaped."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def launch_agent(command: list[str]) -> bytes:
    """An agent for launchd, kept alive unless it ends well."""
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": command,
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ExitTimeOut": 20,
            "Umask": 0o077,
            "StandardErrorPath": str(Path.home() / "Library" / "Logs" / "localq.log"),
        }
    )
