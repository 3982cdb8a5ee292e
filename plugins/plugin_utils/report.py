# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as data: the observations on each host of a play, in the form of docs/report.schema.json. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import datetime
import typing as t

from ..module_utils._core.progress import human
from ..module_utils._core.text import clean
from ..module_utils._preflight.host_request import vulnerability
from .report_facts import checked

SCHEMA = 1
Facts = t.Mapping[str, t.Any]


def build(hosts: t.Mapping[str, Facts], *, check: bool, now: float, benchmark: Facts | None = None) -> dict[str, t.Any]:
    """Return the report.

    :param hosts: the facts of the roles and of the module host_info by host, in any form; ``ollama_report_failure`` for
        a host that failed, ``ollama_report_unreachable`` for one that did not answer, and ``ollama_report_waits`` for
        one in a later batch of the play.
    :param check: whether the roles ran in check mode, so that their results are predictions.
    :param now: seconds since the epoch.
    :param benchmark: the newest result of the benchmark by host, from `history.for_report`.
    """
    rows = [_host(name, _facts(facts), check, (benchmark or {}).get(name)) for name, facts in sorted(hosts.items())]
    models = [model for row in rows for model in row["models"]]
    report = {
        "schema": SCHEMA,
        "created_at": datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "summary": {
            "hosts": len(rows),
            "servers": sum(row["state"] not in ("no_server", "not_contacted") for row in rows),
            "running": sum(row["state"] == "running" for row in rows),
            "models": sum(model["state"] != "missing" for model in models),
            "missing": sum(model["state"] == "missing" for model in models),
            "damaged": sum(model["state"] == "damaged" for model in models),
        },
        "warnings": [{"host": row["host"], "text": text} for row in rows for text in _warnings(row)],
        "hosts": rows,
    }
    return t.cast("dict[str, t.Any]", clean(report))


def _facts(facts: Facts) -> Facts:
    """Return the facts of a host. A host that did not answer has no observation."""
    seen = facts.get("ollama_host_info")
    silent = isinstance(seen, t.Mapping) and (seen.get("unreachable") or seen.get("failed"))
    return checked({**facts, "ollama_host_info": None if silent else seen})


def _host(name: str, facts: Facts, check: bool, benchmark: Facts | None) -> dict[str, t.Any]:
    seen = facts.get("ollama_host_info") or {}
    converged = facts.get("ollama_report") or {}
    listening = (facts.get("ansible_facts") or {}).get("ollama_listening")
    failure = facts.get("ollama_report_failure")
    unreachable = facts.get("ollama_report_unreachable")
    version = seen["version"] if seen else converged.get("version")
    state = seen.get("state") or ("running" if version else _state_without_version(facts, converged))
    if state == "not_installed" and not facts.get("is_server", True):
        state = "no_server"
    if facts.get("ollama_report_waits"):
        state = "not_contacted"
    if unreachable or (failure and not seen and not converged):
        state = "unreachable" if unreachable else "failed"
    compute = seen.get("compute") if seen else converged.get("compute")
    return {
        "host": name,
        "state": state,
        "reason": failure or unreachable or (seen.get("server_failure") if state == "not_running" else None),
        "version": version,
        "compute": None if compute is None or state != "running" else devices(compute),
        "listening": list(seen.get("listening", listening) or []),
        "gpus": list(seen.get("gpus") or []),
        "store": seen.get("store"),
        "models": _observed(seen, converged, check) if seen else _converged(converged, check),
        "undeclared": sum(not row["declared"] for row in seen["models"]) if seen else converged.get("undeclared"),
        "pending": _pending(facts) if check else [],
        "done": [] if check else _done(converged),
        "scheduled_verification": seen.get("scheduled_verification"),
        "benchmark": {key: benchmark[key] for key in ("measured_at", "models")} if benchmark else None,
    }


def _state_without_version(facts: Facts, converged: Facts) -> str:
    """Return the state of a host in check mode, in which a stopped server returns no version."""
    if not converged:
        return "no_server"
    return "not_running" if (facts.get("ollama__preflight") or {}).get("installed") else "not_installed"


def devices(compute: t.Sequence[Facts]) -> str:
    """Return the names of the compute devices of a server, from the result ``compute`` of the module model."""
    return counted(["CPU" if device.get("library") == "cpu" else _device(device) for device in compute]) or "unknown"


def counted(names: t.Sequence[str]) -> str:
    """Return names as one text in which equal names are counted: ``8 x NVIDIA H100``."""
    numbers = {name: names.count(name) for name in names}
    return ", ".join(name if number == 1 else f"{number} x {name}" for name, number in numbers.items())


def _device(device: Facts) -> str:
    return f"{device.get('library', '')} {device.get('description', '')}".strip() or "unknown"


def _observed(seen: Facts, converged: Facts, check: bool) -> list[dict[str, t.Any]]:
    """Return the models of an observed host.

    The converge knows their sources and has hashed changed files, which the observation does not.
    """
    known = {row["name"]: row for row in converged.get("models") or []}
    rows = [dict(row) for row in seen.get("models") or []]
    for row in rows:
        of = known.get(row["name"], {})
        row["source"] = of.get("source")
        if check and of.get("damage"):
            row.update(_damage(of["damage"]), verified_at=None)
    return rows


def _damage(found: t.Sequence[Facts]) -> dict[str, t.Any]:
    problems = [f"{item.get('digest', '')}: {item.get('kind', '')}" for item in found]
    return {"state": "damaged", "problems": problems, "damaged_blobs": len(found)}


def _converged(converged: Facts, check: bool) -> list[dict[str, t.Any]]:
    """Return the models after the converge, or their current state in check mode."""
    rows = []
    for row in converged.get("models") or []:
        digest = row["digest_before" if check else "digest_after"]
        if row["state"] == "absent" and not digest:
            continue
        damage = row.get("damage") or [] if check else []
        verified = None if damage or not digest else row.get("verified_at")
        state = "missing" if not digest else "verified" if verified else "not_checked"
        rows.append(
            {
                "name": row["name"],
                "alias_of": None,
                "declared": row["state"] != "absent",
                "state": state,
                "verified_at": verified,
                "digest": digest,
                "size": row["size"] or 0,
                "problems": [],
                "damaged_blobs": 0,
                "loaded": False,
                "memory_bytes": 0,
                "vram_bytes": 0,
                "source": row.get("source"),
                **(_damage(damage) if damage else {}),
            }
        )
    return rows


def _pending(facts: Facts) -> list[str]:
    """Return the changes that the roles predicted for the next run."""
    reasons = (facts.get("ollama__preflight") or {}).get("reasons") or {}
    found = [f"{step}: {reason}" for step, reason in reasons.items()]
    for row in (facts.get("ollama_report") or {}).get("models") or []:
        found += [f"{row['name']}: {action}" for action in row.get("actions") or []]
    found += [f"{name}: would be removed" for name in (facts.get("ollama_report") or {}).get("removed") or []]
    return found


def _done(converged: Facts) -> list[str]:
    """Return a line for each finding, repair and removal of a run."""
    found = []
    for row in converged.get("models") or []:
        if row.get("damage"):
            found.append(
                f"{row['name']}: {_blobs(len(row['damage']))} damaged; repaired from {row['source'] or 'the store'}"
            )
        if row["state"] == "absent" and row["digest_before"] and not row["digest_after"]:
            found.append(f"{row['name']}: removed")
    return found + [f"{name}: removed, not declared" for name in converged.get("removed") or []]


def _blobs(count: int) -> str:
    return f"{count} blob" + ("" if count == 1 else "s")


def _warnings(row: Facts) -> list[str]:
    """Return the warnings about a host, the most urgent first."""
    found = []
    if row["state"] in ("unreachable", "failed", "not_running", "not_installed"):
        found.append(STATES[row["state"]] + (f": {row['reason']}" if row["reason"] else ""))
    elif row["reason"]:
        found.append(row["reason"])
    store = row["store"] or {}
    if store.get("failure") and row["state"] != "not_installed":
        found.append(f"model store {store['path']}: {store['failure']}")
    for model in row["models"]:
        if model["state"] == "damaged":
            found.append(f"{model['name']}: {'; '.join(model['problems']) or 'damaged'}")
        if model["state"] == "missing" and model["declared"] and not model["alias_of"]:
            found.append(f"{model['name']}: missing")
    scheduled = row["scheduled_verification"] or {}
    found += [f"{name}: damaged, found by the scheduled verification" for name in scheduled.get("damaged") or []]
    text = vulnerability(row["version"])
    return found + ([text] if text else [])


STATES = {
    "running": "running",
    "not_running": "not running",
    "not_installed": "not installed",
    "unreachable": "unreachable",
    "failed": "failed",
    "no_server": "no server",
    "not_contacted": "not contacted",
}


def age(seconds: float) -> str:
    """Return an age in seconds as a short text such as ``2 h``."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def verified(model: Facts, now: float) -> str:
    """Return the verification of a model as a short text such as ``verified 2 h ago``."""
    if model["state"] == "verified":
        return f"verified {age(now - model['verified_at'])} ago"
    if model["state"] == "damaged":
        return "damaged" + (f": {_blobs(model['damaged_blobs'])}" if model["damaged_blobs"] else "")
    return {"missing": "missing"}.get(model["state"], "not checked")


def remarks(row: Facts) -> list[str]:
    """Return short lines about a host that are not in a column of the table."""
    found = list(row["done"])
    undeclared = [model["name"] for model in row["models"] if not model["declared"] and model["state"] != "missing"]
    if undeclared:
        found.append(f"not declared: {', '.join(undeclared)}")
    elif row["undeclared"]:
        count = row["undeclared"]
        found.append(f"{count} {'model is' if count == 1 else 'models are'} not declared")
    store = row["store"] or {}
    if store.get("leftovers"):
        found.append(f"leftovers: {store['leftovers']} files, {human(store['leftover_bytes'])}")
    if store.get("partials"):
        found.append(f"unfinished downloads: {store['partials']}, {human(store['partial_bytes'])}")
    return found + [f"next run: {text}" for text in row["pending"]]
