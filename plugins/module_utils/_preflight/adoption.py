# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The adoption of a server that the vendor's script has installed.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import typing as t

from .._core.errors import OllamaError
from .._core.server import UNIT_PATH
from .._release import release as release_module
from .host_facts import HostFacts
from .host_request import HostRequest, ValidRequest
from .paths import PATH, bind_mount, normal
from .unit_file import environment_of, is_foreign


def check_adoption(request: HostRequest, host: HostFacts) -> None:
    _check_install_dir(request, host)
    release_module.check_foreign(host.releases, request.install_dir, request.bin_dir)
    if host.other_program:
        raise OllamaError(
            "installation_foreign",
            f"{host.other_program} was not installed by this collection; remove that installation first, its models "
            "stay. If a package owns it (dpkg -S or rpm -qf), remove the package. Ollama's own script uses that "
            "path if PATH lacks /usr/local/bin: systemctl disable --now ollama; rm -r /usr/bin/ollama /usr/lib/ollama "
            f"{UNIT_PATH}{_keep_store(request, host)}",
            path=host.other_program,
        )
    if host.unit is None and host.service.path not in ("", UNIT_PATH):
        raise OllamaError(
            "installation_foreign",
            f"{host.service.path} was not installed by this collection; remove that installation first, its models "
            f"stay. If a package owns it (dpkg -S or rpm -qf), remove the package{_keep_store(request, host)}",
            path=host.service.path,
        )
    if not is_foreign(host.unit):
        return
    program = os.path.join(request.bin_dir, "ollama")
    starts = re.findall(r"^\s*ExecStart\s*=\s*(\S+)\s+serve\s*$", host.unit or "", re.MULTILINE)
    if starts != [program]:
        raise OllamaError(
            "installation_foreign",
            f"{UNIT_PATH} was written neither by this collection nor by Ollama's own script: it does not start "
            f"{program}; remove that installation first (its models stay usable)",
            path=UNIT_PATH,
        )
    store = foreign_store(host)
    if store and not _is_same(store, request.models_dir):
        if PATH.match(normal(store)):
            way = f"expected {store}, or move them first"
        else:
            way = (
                f"they are in {store!r}, a path that systemd units cannot contain; create another path for it with "
                f"{bind_mount(store, '/srv/ollama-models')} (and in /etc/fstab), then set "
                "ollama_models_dir: /srv/ollama-models"
            )
        raise OllamaError(
            "store_foreign",
            f"ollama_models_dir: invalid value {request.models_dir!r}; the server on this host keeps its models in "
            f"another directory: {way}",
            variable="ollama_models_dir",
            store=store,
        )


def _check_install_dir(request: HostRequest, host: HostFacts) -> None:
    """Refuse a directory for releases that differs from that of the server of this collection."""
    if host.unit is None or is_foreign(host.unit):
        return
    found = re.search(r"^ExecStart=(/\S+)/current/bin/ollama serve$", host.unit, re.MULTILINE)
    if found and found[1] != request.install_dir:
        raise OllamaError(
            "install_dir_changed",
            f"ollama_install_dir: invalid value {request.install_dir!r}; expected {found[1]!r}, where the releases of "
            f"this host are; to move them, run playbook kaido.ollama.uninstall with ollama_install_dir: {found[1]} "
            "(models stay), then run this playbook again",
            variable="ollama_install_dir",
        )


def _keep_store(request: HostRequest, host: HostFacts) -> str:
    """Return the hint that keeps the models of another installation; empty if its store is the default one."""
    foreign = is_foreign(host.unit) or (host.unit is None and host.service.path)
    store = foreign_store(host) if foreign else None
    if store is None or _is_same(store, request.models_dir):
        return ""
    return f"; then set ollama_models_dir: {store}"


def _is_same(path: str, other: str) -> bool:
    # A bind mount is the same directory under another path.
    with contextlib.suppress(OSError):
        return os.path.samefile(path, other)
    return os.path.realpath(path) == os.path.realpath(other)


def foreign_store(host: HostFacts) -> str | None:
    """Return the store of a server that this collection did not install, or None."""
    if "OLLAMA_MODELS" in host.service.environment:
        return host.service.environment["OLLAMA_MODELS"]
    with contextlib.suppress(KeyError):
        home = host.service.environment.get("HOME") or pwd.getpwnam(host.service.user or "root").pw_dir
        return os.path.join(home, ".ollama", "models")
    return None


def adoption(valid: ValidRequest, host: HostFacts) -> dict[str, t.Any] | None:
    """Return what is adopted, and which of its settings will no longer apply; None if nothing is adopted. Pure."""
    vendor = host.releases.vendor
    foreign = is_foreign(host.unit)
    if not foreign and not vendor:
        return None
    own = {*valid.environment, *valid.raw_environment}
    unit = {*environment_of(host.unit or "")} - {"PATH", "HOME"} if foreign else set()
    # EnvironmentFile= of the unit has precedence over Environment= of a drop-in.
    overridden = {name for text in host.drop_ins.values() for name in environment_of(text)} & own
    return {
        "version": vendor.version if vendor else None,
        "unit": foreign,
        "drop_ins": sorted(host.drop_ins),
        "dropped": sorted((unit - own) | (overridden - valid.raw_environment.keys())),
    }
