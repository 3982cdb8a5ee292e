# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what the role ollama found on each host as one table that a person can read."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._progress import human
from ..module_utils._text import message

TITLES = ("HOST", "OLLAMA", "LISTENS ON", "COMPUTES ON", "MODEL", "DIGEST", "VERIFIED", "SIZE", "SECONDS", "SOURCE")


def devices(compute: t.Sequence[t.Mapping[str, str]]) -> str:
    """Return what a server computes on, from the result ``compute`` of the module model."""
    names = ["CPU" if device.get("library") == "cpu" else _device(device) for device in compute]
    return ", ".join(names) or "unknown"


def _device(device: t.Mapping[str, str]) -> str:
    return f"{device.get('library', '')} {device.get('description', '')}".strip() or "unknown"


def table(reports: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """Return the lines of the table: a line for each model, what concerns the host only on its first one.

    :param reports: the fact ``ollama_report`` by host.
    """
    rows: list[tuple[str, ...]] = [TITLES]
    for host, report in sorted(reports.items()):
        first = (host, report["version"] or "-", report["address"], devices(report["compute"]))
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


class ActionModule(ActionBase):
    """Collect the hosts' facts and print them."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Print the table; hosts that failed before have no report and so no line."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        hosts = {host: variables["hostvars"][host].get("ollama_report") for host in variables["ansible_play_hosts_all"]}
        lines = table({host: report for host, report in hosts.items() if report})
        Display().display("\n" + "\n".join(lines))
        return dict(result, changed=False, lines=lines)
