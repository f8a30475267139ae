"""A formula for Homebrew."""

from __future__ import annotations

from pathlib import Path

from kit.locked import Locked
from kit.project import HOMEPAGE, SUMMARY, metadata
from kit.published import address, sha256


def homebrew(sdist: Path, lock: list[Locked]) -> str:
    """A formula that makes an environment of what the lock says; llama.cpp is compiled for the machine."""
    wanted = [entry for entry in lock if _on_a_mac(entry.marker)]
    # pip takes only what has one of the lock's hashes, as it does elsewhere
    requirements = "\n".join(f"      {entry.text}" for entry in wanted)
    return f'''\
class Localq < Formula
  include Language::Python::Virtualenv

  desc "{SUMMARY[0].upper()}{SUMMARY[1:]}"
  homepage "{HOMEPAGE}"
  url "{address(sdist)}"
  sha256 "{sha256(sdist)}"
  license "{metadata()["license"]}"

  depends_on "cmake" => :build
  depends_on "ninja" => :build
  depends_on "python@3.13"

  def install
    python = Formula["python@3.13"].opt_bin/"python3.13"
    system python, "-m", "venv", libexec
    (buildpath/"locked.txt").write <<~EOS
{requirements}
    EOS
    pip = [libexec/"bin/python", "-m", "pip", "install", "--no-deps"]
    system(*pip, "--require-hashes", "-r", buildpath/"locked.txt")
    system(*pip, buildpath)
    bin.install_symlink libexec/"bin/localq"
    generate_completions_from_executable(bin/"localq", shell_parameter_format: :click)
  end

  service do
    run [opt_bin/"localq", "serve"]
    keep_alive successful_exit: false
  end

  test do
    assert_match version.to_s, shell_output("#{{bin}}/localq --version")
    assert_match "localq's own kernels", shell_output("#{{bin}}/localq doctor")
  end
end
'''


def _on_a_mac(marker: str) -> bool:
    """Whether a requirement with this marker is for Python 3.13 on a Mac."""
    from packaging.markers import Marker

    environment = {
        "sys_platform": "darwin",
        "os_name": "posix",
        "platform_system": "Darwin",
        "platform_machine": "arm64",
        "python_version": "3.13",
        "python_full_version": "3.13.0",
    }
    return not marker or Marker(marker).evaluate(environment)
