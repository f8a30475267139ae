"""localq's own version. A constant: asking the installed metadata costs 30 ms, and a clone has none."""

from __future__ import annotations

VERSION = "0.1.0"
"""The one place: wheels, packages and manifests take it from here."""
