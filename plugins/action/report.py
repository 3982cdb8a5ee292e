# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what the role ollama found on each host as one table that a person can read."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._core.progress import human
from ..module_utils._core.text import message
from ..module_utils._preflight.host_request import vulnerability

TITLES = ("HOST", "OLLAMA", "LISTENS ON", "COMPUTES ON", "MODEL", "DIGEST", "VERIFIED", "SIZE", "SECONDS", "SOURCE")


def devices(compute: t.Sequence[t.Mapping[str, str]]) -> str:
    """Return what a server computes on, from the result ``compute`` of the module model."""
    names = ["CPU" if device.get("library") == "cpu" else _device(device) for device in compute]
    return ", ".join(names) or "unknown"


def listens(report: t.Mapping[str, t.Any]) -> str:
    """Return where the services of a host accept connections, as the modules observed it."""
    return ", ".join(
        row["address"] + ("" if row["service"] == "server" else f" ({row['service']})")
        for row in report.get("listening") or []
    )


def _device(device: t.Mapping[str, str]) -> str:
    return f"{device.get('library', '')} {device.get('description', '')}".strip() or "unknown"


def table(reports: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """Return the lines of the table: a line for each model, what concerns the host only on its first one.

    :param reports: by host the fact ``ollama_report``, with ``listening``, the fact ``ollama_listening``.
    """
    rows: list[tuple[str, ...]] = [TITLES]
    for host, report in sorted(reports.items()):
        first = (
            host,
            report["version"] or "-",
            listens(report) or "-",
            "-" if report["compute"] is None else devices(report["compute"]),
        )
        present = [row for row in report["models"] if row["state"] != "absent"]
        for index, model in enumerate(present or [None]):
            head = first if index == 0 else ("",) * 4
            if model is None:
                rows.append((*head, "-", "", "", "", "", ""))
                continue
            rows.append(
                (
                    *head,
                    model["name"],
                    # As many digits as `ollama list` shows.
                    (model["digest_after"] or "-").replace("sha256:", "")[:12],
                    "no" if report["verify"] == "none" else "yes",
                    human(model["size"]),
                    f"{model['seconds']:.1f}",
                    model["source"] or "-",
                )
            )
    # Names and devices are texts of servers and their files.
    rows = [tuple(message(str(cell)) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]
    # Numbers stand right, words left.
    lines = [
        "  ".join(
            cell.rjust(width) if title in ("SIZE", "SECONDS") else cell.ljust(width)
            for cell, width, title in zip(row, widths, TITLES)
        ).rstrip()
        for row in rows
    ]
    return lines


def warnings(reports: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """Return a line for each host whose server has a known vulnerability."""
    found = {host: vulnerability(report["version"]) for host, report in sorted(reports.items())}
    return [f"{host}: {text}" for host, text in found.items() if text]


def _report(variables: t.Mapping[str, t.Any], host: str) -> dict[str, t.Any] | None:
    """Return what the roles found on a host, with a server or without one; None if they failed before."""
    known = variables["hostvars"][host]
    listening = (known.get("ansible_facts") or {}).get("ollama_listening")
    report = known.get("ollama_report")
    if report is None and listening is None:
        return None
    return {"version": None, "compute": None, "models": [], **(report or {}), "listening": listening}


class ActionModule(ActionBase):
    """Collect the hosts' facts and print them."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Print the table; hosts that failed before have no report and so no line."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        reports = {host: report for host in variables["ansible_play_hosts_all"] if (report := _report(variables, host))}
        lines = table(reports)
        for warning in warnings(reports):
            Display().warning(warning)
        Display().display("\n" + "\n".join(lines))
        return dict(result, changed=False, lines=lines)
