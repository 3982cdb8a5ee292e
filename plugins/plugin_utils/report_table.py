# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a table for terminals. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import textwrap

from ..module_utils._core.name import short_digest
from ..module_utils._core.progress import human
from ..module_utils._core.text import message
from .report import STATES, Facts, remarks, verified

TITLES = ("HOST", "OLLAMA", "LISTENS ON", "COMPUTES ON", "MODEL", "DIGEST", "VERIFICATION", "SIZE", "SOURCE")
# The maximum number of characters of the reason of a failure.
_REASON = 110


def table(report: Facts, now: float) -> list[str]:
    """Return the lines of the table, one for each model, followed by a line for each remark."""
    rows: list[tuple[str, ...]] = [TITLES]
    for host in report["hosts"]:
        first = (host["host"], host["version"] or STATES[host["state"]], listens(host) or "-", host["compute"] or "-")
        models = [_model(model, now) for model in host["models"]]
        for index, cells in enumerate(models or [("-",) + ("",) * 4]):
            rows.append((*(first if index == 0 else ("",) * 4), *cells))
    # Names and devices are texts from servers and their files, so they are sanitized.
    rows = [tuple(message(str(cell)) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]
    lines = [
        "  ".join(
            cell.rjust(width) if title == "SIZE" else cell.ljust(width)
            for cell, width, title in zip(row, widths, TITLES)
        ).rstrip()
        for row in rows
    ]
    return lines + [message(f"{host['host']}: {text}") for host in report["hosts"] for text in _notes(host)]


def _notes(host: Facts) -> list[str]:
    # The complete text is in the output above, in the page and in the JSON.
    reason = textwrap.shorten(host["reason"], _REASON, placeholder=" …") if host["reason"] else ""
    return ([reason] if reason else []) + remarks(host)


def listens(host: Facts) -> str:
    """Return the observed addresses of the services of a host."""
    return ", ".join(
        row["address"] + ("" if row["service"] == "server" else f" ({row['service']})") for row in host["listening"]
    )


def _model(model: Facts, now: float) -> tuple[str, ...]:
    name = f"{model['name']} = {model['alias_of']}" if model["alias_of"] else model["name"]
    return (
        name,
        short_digest(model["digest"]) if model["digest"] else "-",
        verified(model, now),
        human(model["size"]) if model["size"] else "-",
        model["source"] or "-",
    )
