# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations in the format of Ollama, such as 1h30m, for the residency of models and for timeouts. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from .._core.errors import OllamaError

FOREVER = -1.0
# The units of Go's time.ParseDuration, in seconds.
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"(?:{_PART})+\Z")


def parse_timeout(text: t.Any, *, what: str = "timeout") -> float:
    """Return seconds from a number or a duration; 0, negative values and ``forever`` mean a day.

    :raises OllamaError: ``value_invalid``.
    """
    value = str(text).strip()
    seconds = parse_keep_alive("0" if value.startswith("-") else value[value.startswith("+") :], what=what)
    return seconds if seconds > 0 else 86400.0


def parse_keep_alive(text: t.Any, *, what: str = "keep_alive") -> float:
    """Return seconds from a number or a duration, or FOREVER.

    :param what: the name of the option in messages.
    :raises OllamaError: ``value_invalid``.
    """
    value = str(text).strip().lower()
    if value in ("forever", "-1"):
        return FOREVER
    if re.match(r"\d+(\.\d+)?\Z", value):
        return float(value)
    if not _DURATION.match(value):
        raise OllamaError(
            "value_invalid",
            f"{what}: invalid value {text!r}; expected forever, seconds, or a duration such as 1h30m",
        )
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, value))
