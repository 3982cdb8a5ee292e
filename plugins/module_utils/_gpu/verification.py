# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a model really run on a GPU? Server, journal and nvidia-smi have to agree.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import re
import typing as t
from dataclasses import dataclass

from .._core.progress import human
from . import facts, support

_APPS = ["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]


@dataclass(frozen=True)
class Server:
    """The processes of a unit, and as whom they run."""

    pids: frozenset[int]
    account: facts.Account | None


def find_server(unit: str, proc: str = "/proc") -> Server:
    """Return a unit's processes by their control group, its runners included."""
    pids = frozenset(int(name) for name in os.listdir(proc) if name.isdigit() and _is_of(unit, f"{proc}/{name}"))
    for pid in sorted(pids):
        with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
            with open(f"{proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
            gids = {*fields["Groups"].split(), fields["Gid"].split()[1]}
            uid = int(fields["Uid"].split()[1])
            return Server(pids, facts.Account(str(uid), uid, frozenset(int(gid) for gid in gids)))
    return Server(pids, None)


def _is_of(unit: str, process: str) -> bool:
    # A user can run a unit of the same name, but only in a slice of users.
    with contextlib.suppress(OSError), open(f"{process}/cgroup", encoding="utf-8", errors="replace") as file:
        return any(re.search(rf"/{re.escape(unit)}(/|$)", line) and "/user.slice/" not in line for line in file)
    return False


def computes_there(server: Server, run: facts.Run) -> bool | None:
    """Return whether nvidia-smi shows a process of the server; None where it cannot tell, as inside a container."""
    answer = run(_APPS)
    if answer is None or answer[0] != 0:
        return None
    lines = [line.strip() for line in answer[1].splitlines() if line.strip()]
    if not all(re.match(r"[0-9]{1,10}\Z", line) for line in lines):
        return None
    if not lines and os.path.exists("/run/systemd/container"):
        return None
    return any(int(line) in server.pids for line in lines)


def problem(result: t.Mapping[str, t.Any], compute: t.Sequence[t.Mapping[str, t.Any]], seen: bool | None) -> str | None:
    """Return what is wrong with a probed model, as a clause; None where all of it runs on a GPU. Pure."""
    size, vram = result["size"], result["size_vram"]
    if vram == 0:
        return "it runs on the CPU: none of it is in GPU memory"
    where = f"the server says that {human(vram)} of it are in GPU memory"
    if compute and all(device.get("library") == "cpu" for device in compute):
        return f"{where}, but its journal says that it found no GPU"
    if seen is False:
        return f"{where}, but nvidia-smi shows no process of it"
    if vram < size:
        return f"only {human(vram)} of {human(size)} ({100 * vram / size:.0f} %) are in GPU memory"
    return None


def why(host: facts.Host, uses_cpu: bool) -> str:
    """Return what the host's GPUs have to do with it. Pure."""
    if not host.gpus:
        return "this host has no GPU"
    reasons = [f"{gpu.name or gpu.pci_id or gpu.vendor}: {gpu.reason}" for gpu in host.gpus if not gpu.usable]
    if any(gpu.usable for gpu in host.gpus):
        hint = "its GPU can be used, so the server was perhaps started before the driver: restart it"
        return hint if uses_cpu else "more is not free"
    return "; ".join(reasons)


def explain(
    result: t.Mapping[str, t.Any],
    compute: t.Sequence[t.Mapping[str, t.Any]],
    seen: bool | None,
    server: Server,
    version: str,
) -> str | None:
    """Return `problem` with what this host's GPUs have to do with it."""
    clause = problem(result, compute, seen)
    if clause is None:
        return None
    host = facts.look("/", facts.run_program)
    who = server.account
    support.judge(host, version, lambda path: who is not None and facts.denied("/", who, path))
    return f"{clause}; {why(host, uses_cpu=result['size_vram'] == 0)}"


def brief(version: str, user: str) -> dict[str, t.Any]:
    """Return what matters of this host's GPUs before a server is there."""
    host = facts.look("/", facts.run_program)
    who = facts.account(user)
    support.judge(host, version, lambda path: who is not None and facts.denied("/", who, path))
    # An account is put into its groups later.
    usable = [gpu for gpu in host.gpus if gpu.usable or gpu.state == "no_permission"]
    return {
        "count": len(host.gpus),
        "usable": bool(usable),
        "summary": support.summary(host),
        "vram": sum(gpu.vram or 0 for gpu in usable),
        "variant": support.variant(host),
    }
