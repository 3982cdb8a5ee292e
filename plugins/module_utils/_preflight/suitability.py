# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse, before anything changes, a request that a host cannot meet. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from .._core import sockets
from .._core.errors import OllamaError
from .._core.progress import human
from .._core.server import ENVIRONMENT_PATH, UNIT, UNIT_PATH
from .._release import release as release_module
from .adoption import check_adoption
from .host_facts import HostFacts, PortListener, missing_groups
from .host_request import HostRequest, ValidRequest
from .store_facts import MIGRATION_FACTOR, crosses
from .store_move import check_space
from .unit_file import account_of, is_foreign, values_of

# Accounts with lower user IDs exist on every system, such as daemon and www-data.
_FIRST_DYNAMIC_UID = 100
_SHELLS = ("/nologin", "/false")


def checksums_of(request: HostRequest, host: HostFacts, fetched: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the expected checksums of the archives of the release, the base archive first. Pure.

    A fetched checksum is recorded with the release and used from then on.

    :param fetched: the checksums that the release site publishes; None if it was not queried.
    :raises OllamaError: ``checksum_unknown``, ``digest_invalid`` or ``architecture_unsupported``.
    """
    assets = release_module.assets(host.machine, request.variants)
    known = dict(request.checksums)
    if request.fetch_checksum:
        known = {**(fetched or {}), **host.releases.releases.get(request.version, {}), **known}
    if request.checksum:
        known[assets[0]] = release_module.parse_checksum(request.checksum, what="ollama_release_checksum")
    for asset in assets:
        if asset not in known:
            raise OllamaError(
                "checksum_unknown",
                f"ollama_version: {request.version!r} has no known checksum for {asset}; expected its checksum in "
                "ollama_release_checksums, ollama_release_fetch_checksum: true, or a version of "
                "roles/ollama/vars/checksums.yml, to which scripts/add_release.py adds releases",
                variable="ollama_version",
                archive=asset,
            )
    return {asset: release_module.parse_checksum(known[asset], what="checksum of " + asset) for asset in assets}


def check_host(
    request: HostRequest, valid: ValidRequest, host: HostFacts, fetched: t.Mapping[str, str] | None = None
) -> release_module.ReleaseRequest:
    """Refuse a request that this host cannot meet, and return the release for it. Pure.

    :raises OllamaError: with the first obstacle.
    """
    if not host.has_systemd:
        raise OllamaError(
            "init_unsupported", "this host does not use systemd as its init system; expected a host that does"
        )
    if host.service.masked:
        raise OllamaError(
            "unit_masked", f"{UNIT} is masked; to run the server on this host: systemctl unmask {UNIT}", unit=UNIT
        )
    release = release_module.ReleaseRequest(
        version=request.version,
        archives=checksums_of(request, host, fetched),
        base_url=request.base_url,
        install_dir=request.install_dir,
        bin_dir=request.bin_dir,
        keep=request.keep,
    )
    _check_account(request, host)
    _check_drop_ins(request, valid, host)
    check_adoption(request, host)
    for problem in host.directories.problems:
        raise OllamaError(problem.code, problem.message, path=problem.path)
    _check_migration(request, host)
    _check_writable(request, host, release)
    if host.move:
        check_space(host.move)
    if request.models_mount_required and not host.store.mounted:
        point = request.models_dir if request.models_mount_required is True else request.models_mount_required
        raise OllamaError(
            "directory_not_mounted",
            f"ollama_models_dir: {point} is not a mount point; mount its file system, set ollama_models_mount_required "
            "to the mount point above it, or to false",
            variable="ollama_models_dir",
        )
    if not host.has_zstd and not host.package_manager and "install" in release_module.plan(host.releases, release):
        raise OllamaError(
            "program_missing",
            "the program zstd is required to unpack a release, and this host has neither apt nor dnf to install it; "
            "install zstd first",
        )
    for listener in host.listeners:
        if sockets.overlap(listener.address, valid.address) and not _is_ours(listener, host):
            holder = f"{listener.program} (pid {listener.pid})" if listener.program else "a program that is not visible"
            raise OllamaError(
                "port_taken",
                f"ollama_settings.host: {str(valid.address)!r} is in use: "
                f"{holder} listens on port {valid.address.port}; stop it, or set another port",
                program=listener.program,
                pid=listener.pid,
            )
    if host.forwarded:
        raise OllamaError(
            "port_taken",
            f"ollama_settings.host: {str(valid.address)!r} is in use: it accepts connections, but no program of this "
            f"host listens on port {valid.address.port}; a rule of the firewall or of a container engine forwards "
            "them, or it is the address of another host; remove the rule, or set another port",
        )
    return release


def _check_writable(request: HostRequest, host: HostFacts, release: release_module.ReleaseRequest) -> None:
    """Refuse read-only file systems if a step writes to them; a read-only image may contain a complete server."""
    pending = {
        "ollama_install_dir": bool(release_module.plan(host.releases, release)),
        "ollama_models_dir": bool(host.directories.wrong or host.move),
    }
    for variable in host.directories.read_only:
        if pending[variable]:
            path = {"ollama_install_dir": request.install_dir, "ollama_models_dir": request.models_dir}[variable]
            raise OllamaError(
                "filesystem_read_only",
                f"{variable}: {path} is on a file system that is mounted read-only; mount it writable, or set another "
                "directory",
                variable=variable,
                path=path,
            )


def _check_account(request: HostRequest, host: HostFacts) -> None:
    _check_unit_account(request, host)
    account = host.account
    if account is None:
        return
    text = None
    if account.uid == 0 or not account.shell.endswith(_SHELLS):
        text = (
            f"it is a login account (uid {account.uid}, shell {account.shell or '/bin/sh'}, home {account.home}); "
            "expected a system account without a shell, or a name that does not exist yet"
        )
    elif account.uid < _FIRST_DYNAMIC_UID:
        text = (
            f"it is an account of the operating system (uid {account.uid}); expected an account that only this server "
            "uses"
        )
    elif account.group != request.group:
        text = (
            f"its primary group is {account.group}; expected ollama_group: {account.group}, or another ollama_user "
            "(existing accounts are not changed)"
        )
    elif account.processes:
        text = f"{', '.join(account.processes[:3])} runs as it; expected an account that only this server uses"
    elif not account.local and missing_groups(host):
        groups = missing_groups(host)
        commands = " && ".join(f"gpasswd -a {request.user} {group}" for group in groups)
        text = (
            f"it is in a directory service and not in the groups of the GPU devices; expected membership in "
            f"{', '.join(groups)}, for example with: {commands}"
        )
    if text:
        raise OllamaError(
            "account_unsuitable", f"ollama_user: invalid value {request.user!r}; {text}", variable="ollama_user"
        )


def _check_unit_account(request: HostRequest, host: HostFacts) -> None:
    """Refuse an account that differs from that of the server, and drop-ins that set a different one."""
    before = account_of(host.unit or "")
    for key, variable, name in (("User", "ollama_user", request.user), ("Group", "ollama_group", request.group)):
        if not is_foreign(host.unit) and before.get(key, name) != name:
            raise OllamaError(
                "account_changed",
                f"{variable}: invalid value {name!r}; expected {before[key]!r}, which the server on this host uses; "
                f"to change it, run playbook kaido.ollama.uninstall with {variable}: {before[key]} (models stay), then "
                "this one again",
                variable=variable,
            )
        for drop_in, text in sorted(host.drop_ins.items()):
            found = account_of(text)
            if found.get(key, name) != name or found.get("DynamicUser", "no").lower() in ("yes", "true", "on", "1"):
                wrong = f"{key}={found[key]}" if found.get(key, name) != name else "DynamicUser="
                raise OllamaError(
                    "drop_in_conflict",
                    f"{_path_of(drop_in)}: {wrong} conflicts with {variable}: "
                    f"{name}, the owner of the models; remove that line",
                    variable=variable,
                )


def _check_drop_ins(request: HostRequest, valid: ValidRequest, host: HostFacts) -> None:
    """Refuse drop-ins that override the program, the listen address or the model store of the role."""
    for drop_in, text in sorted(host.drop_ins.items()):
        why = _other_program(request, text) or _cleared_settings(text)
        for name, variable in (("OLLAMA_MODELS", "ollama_models_dir"), ("OLLAMA_HOST", "ollama_settings.host")):
            found = host.drop_in_files.get(drop_in, {}).get(name)
            if found is not None and not is_foreign(host.unit) and found != valid.environment[name]:
                why = f"{name}={found} of its EnvironmentFile= conflicts with {variable}: {valid.environment[name]}"
        if why:
            raise OllamaError("drop_in_conflict", f"{_path_of(drop_in)}: {why}; remove that line", path=drop_in)


def _other_program(request: HostRequest, text: str) -> str | None:
    programs = (f"{request.install_dir}/current/bin/ollama", f"{request.bin_dir}/ollama")
    for command in filter(None, values_of(text, "ExecStart")):
        # A program such as numactl may start the server.
        if not any(re.search(rf"(?<![\w./-]){re.escape(program)}(?![\w./-])", command) for program in programs):
            return f"ExecStart={command} does not start {programs[0]}"
    return None


def _cleared_settings(text: str) -> str | None:
    files = [value.lstrip("-") for value in values_of(text, "EnvironmentFile")]
    if "" not in files or ENVIRONMENT_PATH in files[files.index("") :]:
        return None
    return f"EnvironmentFile= clears the settings in {ENVIRONMENT_PATH}"


def _path_of(drop_in: str) -> str:
    return drop_in if "/" in drop_in else f"{UNIT_PATH}.d/{drop_in}"


def _is_ours(listener: PortListener, host: HostFacts) -> bool:
    # In some containers root cannot read other processes, so the account is compared.
    same_account = host.account is not None and host.account.uid == listener.uid
    return listener.unit or (listener.pid is None and same_account and host.service.active)


def _check_migration(request: HostRequest, host: HostFacts) -> None:
    crossing = crosses(request, host.releases, host.store.generation)
    if not crossing:
        return
    if not request.accept_store_migration:
        if crossing == "up":
            why = "0.40 and newer rewrite models of older versions, and require up to 2.25 times their space"
        else:
            why = "a version before 0.40 may remove models that a newer version stored"
        raise OllamaError(
            "store_migration_not_accepted",
            f"ollama_version: invalid value {request.version!r}; {why}, which cannot be undone; expected a "
            f"version {'before' if crossing == 'up' else 'from'} 0.40, or ollama_accept_store_migration: true",
            variable="ollama_version",
            store=request.models_dir,
        )
    # The model itself is already on the disk.
    needed = int(host.store.largest * (MIGRATION_FACTOR - 1))
    if crossing == "up" and host.store.free < needed:
        raise OllamaError(
            "disk_full",
            f"ollama_version: {request.version!r} rewrites models and requires {human(needed)} for the largest one in "
            f"{request.models_dir}; {human(host.store.free)} are free",
            path=request.models_dir,
        )
