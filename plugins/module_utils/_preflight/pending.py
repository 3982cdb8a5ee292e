# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pending steps of a host, each with its reason. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import time
import typing as t

from .._core.server import ENVIRONMENT_PATH, UNIT_PATH
from .._release import release as release_module
from .host_facts import HostFacts, missing_groups
from .host_request import HostRequest, ValidRequest
from .store_facts import crosses


def pending_steps(
    request: HostRequest, valid: ValidRequest, host: HostFacts, release: release_module.ReleaseRequest
) -> dict[str, str]:
    """Return the pending steps in order, each with its reason. Pure."""
    steps: dict[str, str] = {}
    actions = release_module.plan(host.releases, release)
    if "install" in actions and not host.has_zstd:
        steps["packages"] = "zstd is not installed"
    if actions:
        steps["release"] = ", ".join(actions.values())
    if "release" in steps and crosses(request, host.releases, host.store.generation) == "up":
        steps["backup"] = f"{request.version} rewrites models: the manifests are copied first"
    groups = missing_groups(host)
    if host.account is None:
        steps["account"] = f"there is no user {request.user}"
    elif groups:
        steps["account"] = f"user {request.user} is not in {', '.join(groups)}"
    wrong = host.directories.wrong
    if wrong:
        listed = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        unreadable = ", or not readable by its group" if request.shared else ""
        steps["directories"] = f"{listed}: missing, or not owned by {request.user}, or writable by others{unreadable}"
    if host.move:
        steps["move"] = host.move.reason
    if host.unit != request.unit:
        steps["unit"] = f"{UNIT_PATH} {'is missing' if host.unit is None else 'differs'}"
    environment = {**valid.environment, **valid.raw_environment}
    if host.environment != environment:
        before = host.environment or {}
        names = sorted(name for name in {*before, *environment} if before.get(name) != environment.get(name))
        steps["environment"] = f"{ENVIRONMENT_PATH} differs in {', '.join(names)}"
    elif not host.environment_is_private:
        steps["environment"] = f"{ENVIRONMENT_PATH} does not have mode 0600 and owner root"
    restart = _restart_reason(host, release, steps)
    if restart:
        steps["service"] = restart
    return steps


def settings_changes(valid: ValidRequest, host: HostFacts) -> list[str]:
    """Return a line for each variable of the environment file that changes. Only values of settings are shown."""
    before, after = host.environment or {}, {**valid.environment, **valid.raw_environment}

    def shown(name: str, values: t.Mapping[str, str]) -> str:
        if name not in values:
            return "(not set)"
        # A variable that only the file contains may be from ollama_environment.
        return values[name] if name in valid.environment else "(hidden)"

    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return [f"{name}: {shown(name, before)} -> {shown(name, after)}" for name in names]


def _restart_reason(host: HostFacts, release: release_module.ReleaseRequest, steps: t.Mapping[str, str]) -> str | None:
    changed = [step for step in ("account", "unit", "environment") if step in steps]
    if not host.service.active:
        return "the server is not running"
    if host.releases.current != release.version or not host.releases.has(release):
        return "the server runs another release"
    if changed:
        return f"a restart applies the new {' and '.join(changed)}"
    if host.service.started < host.configured < time.time():
        return "the server was started before its release, unit, drop-ins or settings were changed"
    if not host.service.enabled:
        return "the server does not start at boot"
    return host.service.replaced
