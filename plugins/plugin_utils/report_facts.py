# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of a host that the report uses. Pure.

A host may return any data. Values of another form are a failure of that host only.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from ..module_utils._core.shape import Required, Shape, conform

Facts = t.Mapping[str, t.Any]

_MODEL_STATES = ("verified", "not_checked", "damaged", "missing")
_COMPUTE: Shape = [{"library": str, "description": str}]
_LISTENING: Shape = [{"service": Required(str), "address": Required(str)}]
_OBSERVED: Shape = {
    "version": str,
    "state": ("running", "not_running", "not_installed"),
    "server_failure": str,
    "listening": _LISTENING,
    "compute": _COMPUTE,
    "gpus": [{"name": Required(str), "vram": int}],
    "store": {
        "path": Required(str),
        "failure": str,
        "bytes_total": int,
        "bytes_free": int,
        "leftovers": Required(int),
        "leftover_bytes": Required(int),
        "partials": Required(int),
        "partial_bytes": Required(int),
    },
    "models": [
        {
            "name": Required(str),
            "alias_of": str,
            "declared": Required(bool),
            "state": Required(_MODEL_STATES),
            "verified_at": int,
            "digest": str,
            "size": Required(int),
            "problems": [str],
            "damaged_blobs": Required(int),
            "loaded": Required(bool),
            "memory_bytes": Required(int),
            "vram_bytes": Required(int),
        }
    ],
    "scheduled_verification": {"finished_at": Required(int), "damaged": [str]},
}
_CONVERGED: Shape = {
    "version": str,
    "compute": _COMPUTE,
    "models": [
        {
            "name": Required(str),
            "state": str,
            "digest_before": str,
            "digest_after": str,
            "size": int,
            "source": str,
            "actions": [str],
            "damage": [{"digest": str, "kind": str}],
            "verified_at": int,
        }
    ],
    "removed": [str],
    "undeclared": int,
}
_TEXT: Shape = str
_SHAPES: dict[str, Shape] = {
    "ollama_host_info": _OBSERVED,
    "ollama_report": _CONVERGED,
    "ollama_report_failure": _TEXT,
    "ollama_report_unreachable": _TEXT,
}


def checked(facts: Facts) -> dict[str, t.Any]:
    """Return the facts of a host in the form that the report uses; a host with another form has failed."""
    kept = {
        "is_server": bool(facts.get("is_server", True)),
        "ollama_report_waits": bool(facts.get("ollama_report_waits")),
    }
    try:
        found = {name: conform(facts.get(name), shape, name, fill=True) for name, shape in _SHAPES.items()}
        for model in (found["ollama_host_info"] or {}).get("models", []):
            if model["state"] == "verified" and model["verified_at"] is None:
                raise ValueError(f"{model['name']}: verified, but without a time")
        preflight = facts.get("ollama__preflight")
        found["ollama__preflight"] = {"reasons": _reasons(preflight), "installed": _is_installed(preflight)}
        of_modules = conform(facts.get("ansible_facts"), {"ollama_listening": _LISTENING}, "ansible_facts", fill=True)
        return {**kept, **found, "ansible_facts": of_modules}
    except ValueError as exc:
        return {**kept, "ollama_report_failure": f"the host returned an invalid result: {exc}"}


def _is_installed(preflight: t.Any) -> bool:
    """Return whether a release was in use before the run."""
    release = preflight.get("release") if isinstance(preflight, t.Mapping) else None
    return bool(isinstance(release, t.Mapping) and release.get("before"))


def _reasons(preflight: t.Any) -> dict[str, str]:
    """Return the pending steps with their reasons."""
    reasons = (preflight.get("reasons") or {}) if isinstance(preflight, t.Mapping) else {}
    if not isinstance(reasons, t.Mapping):
        raise ValueError("ollama__preflight.reasons: expected a mapping")
    return {str(step): conform(text, Required(str), f"reasons.{step}") for step, text in reasons.items()}
