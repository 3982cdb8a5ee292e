# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification that a model runs on a GPU: the server, its journal and nvidia-smi must agree.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import re
import typing as t
from dataclasses import dataclass

from .._core import systemd
from .._core.progress import human
from . import support
from .tree import Account, Run, account

_APPS = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
_APP = re.compile(r"([0-9]{1,10})(?:, *(?:([0-9]{1,10})|\[?N/A\]?))?\Z")


@dataclass(frozen=True)
class Server:
    """The processes of a unit, and the account that runs them."""

    pids: frozenset[int]
    account: Account | None


def find_server(unit: str, root: str = "/") -> Server:
    """Return the processes of a unit, including its runners, by their control group."""
    proc = os.path.join(root, "proc")
    pids = [int(name) for name in os.listdir(proc) if name.isdigit()]
    own = frozenset(pid for pid in pids if systemd.unit_of(pid, root) == unit)
    for pid in sorted(own):
        with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
            with open(f"{proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
            gids = {*fields["Groups"].split(), fields["Gid"].split()[1]}
            uid = int(fields["Uid"].split()[1])
            return Server(own, Account(str(uid), uid, frozenset(int(gid) for gid in gids)))
    return Server(own, None)


class Evidence(t.NamedTuple):
    """What nvidia-smi reports about a server while a model is loaded; None if unknown."""

    listed: bool | None = None
    memory: int | None = None
    """The GPU memory of all its processes in bytes."""


def evidence(server: Server, run: Run) -> Evidence:
    """Return what nvidia-smi reports about a server; in a container it lists no processes."""
    answer = run(_APPS)
    if answer is None or answer[0] != 0:
        return Evidence()
    found = [_APP.match(line.strip()) for line in answer[1].splitlines() if line.strip()]
    rows = [row.groups() for row in found if row]
    if len(rows) < len(found) or (not rows and os.path.exists("/run/systemd/container")):
        return Evidence()
    own = [mebibytes for pid, mebibytes in rows if int(pid) in server.pids]
    return Evidence(bool(own), sum(int(size) << 20 for size in own) if own and all(own) else None)


def problem(
    result: t.Mapping[str, t.Any], compute: t.Sequence[t.Mapping[str, t.Any]], listed: bool | None
) -> str | None:
    """Return the problem of a tested model, as a clause; None if all of it runs on a GPU. Pure.

    :param compute: the devices in the server's journal.
    :param listed: whether nvidia-smi lists the server. That is evidence only about models on CUDA: a process that uses
        ROCm or Vulkan is not in its list.
    """
    size, vram = result["size"], result["size_vram"]
    if vram == 0:
        return "it runs on the CPU: none of it is in GPU memory"
    where = f"the server reports {human(vram)} of it in GPU memory"
    libraries = {str(device.get("library") or "").lower() for device in compute}
    if libraries == {"cpu"}:
        return f"{where}, but its journal reports no GPU"
    if listed is False and libraries <= {"cuda", "cpu"}:
        return f"{where}, but nvidia-smi lists no process of it"
    if vram < size:
        return f"only {human(vram)} of {human(size)} ({100 * vram / size:.0f} %) are in GPU memory"
    return None


def why(verdicts: t.Sequence[support.Verdict], uses_cpu: bool) -> str:
    """Return an explanation of a problem from the state of the host's GPUs. Pure."""
    if not verdicts:
        return "this host has no GPU"
    if any(verdict.usable for verdict in verdicts):
        restart = "a GPU of this host can be used, and the server may have started before its driver: restart it"
        return restart if uses_cpu else "there is not enough free GPU memory"
    return "; ".join(f"{verdict.label}: {verdict.reason}" for verdict in verdicts)


def explain(
    result: t.Mapping[str, t.Any],
    compute: t.Sequence[t.Mapping[str, t.Any]],
    listed: bool | None,
    server: Server,
    version: str,
) -> str | None:
    """Return the problem of a tested model with an explanation, or None.

    :param result: the sizes that the server reports.
    :param compute: the devices in the server's journal.
    :param listed: whether nvidia-smi lists the server; None if unknown.
    """
    if problem(result, compute, listed) is None:
        return None
    _host, verdicts = support.examine(version, server.account)
    if not compute and any(verdict.usable and verdict.library != "cuda" for verdict in verdicts):
        # Without the journal it is unknown which GPU computes, and nvidia-smi lists only GPUs of NVIDIA.
        listed = None
    clause = problem(result, compute, listed)
    return clause and f"{clause}; {why(verdicts, uses_cpu=result['size_vram'] == 0)}"


def overview(version: str, user: str) -> dict[str, t.Any]:
    """Return the facts about this host's GPUs that the role ollama requires before it installs the server."""
    host, verdicts = support.examine(version, account(user))
    usable = support.prospective(verdicts)
    faults = [] if usable else [f"{verdict.label}: {verdict.reason}" for verdict in verdicts if verdict.expected]
    return {
        "count": len(verdicts),
        "usable": bool(usable),
        "problem": "; ".join(faults),
        "summary": support.summary(verdicts),
        "vram": sum(verdict.gpu.vram or 0 for verdict in usable),
        "variant": support.variant(host, verdicts),
    }
