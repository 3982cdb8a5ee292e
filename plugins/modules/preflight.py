#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module preflight: validate the variables of a server, survey its host once, and determine pending changes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Validate the variables of an Ollama server and determine pending changes
version_added: 1.0.0
description:
  - The first step of the role P(kaido.ollama.ollama#role). It changes nothing, and requires neither gathered facts nor
    programs other than Python.
  - If the host cannot reach the requested state, the module fails before anything changes, with one line that contains
    the variable of the role, its value and the expected value.
  - Returns the pending steps of this host. The other tasks of the role run only for these steps.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
  - kaido.ollama.server
  - kaido.ollama.server.installation
options:
  version:
    description: Version of the release, C(ollama_version).
    type: str
    required: true
  unit:
    description: Text of the systemd unit.
    type: str
    required: true
  checksum:
    description: Checksum of the release archive, C(ollama_release_checksum). By default it is taken from O(checksums).
    type: str
    default: ""
  checksums:
    description: Known checksums of the release, by name of the archive.
    type: dict
    default: {}
  known_checksums:
    description: Known checksums of all releases, by version and archive. If they are given, the module refuses an
      O(checksum) that belongs to another release.
    type: dict
    default: {}
  fetch_checksum:
    description:
      - Whether an unknown checksum may be taken from the C(sha256sum.txt) of the release, over TLS only,
        C(ollama_release_fetch_checksum).
      - It is recorded on the host with the release, and later runs compare with the recorded value.
    type: bool
    default: false
  variants:
    description: Archives to unpack over the base archive, C(ollama_release_variants).
    type: list
    elements: str
    default: []
  gpu:
    description:
      - Whether models must run on a GPU, C(ollama_gpu). Unless V(off), the module surveys the GPUs of the host, see
        RV(gpu), and adds the archive that they need to O(variants) if its checksum is known.
      - With V(required), an unknown checksum of that archive is a failure.
    type: str
    choices: [required, preferred, 'off']
    default: 'off'
  driver_pending:
    description: Whether the GPU driver is only predicted, as in check mode. O(gpu=required) then accepts a GPU that
      cannot be used yet.
    type: bool
    default: false
  ca_path:
    description: File with certificate authorities to trust, for a private release site.
    type: path
  proxy:
    description: Proxy for fetching the checksum, as in M(kaido.ollama.release).
    type: str
  base_url:
    description: Base URL of the releases, C(ollama_release_base_url).
    type: str
    default: https://github.com/ollama/ollama/releases/download
  keep:
    description: Number of releases to keep on the host, C(ollama_release_keep).
    type: int
    default: 2
  settings:
    description: Settings of the server, C(ollama_settings).
    type: dict
    default: {}
  environment:
    description:
      - Further environment variables, C(ollama_environment), as a JSON text.
      - The type is a string because Ansible masks the values of secret options wherever they occur, and a value such as
        V(1) occurs everywhere.
    type: str
    default: "{}"
  limits:
    description: Limits of the unit, C(ollama_unit_limits).
    type: dict
    default: {}
  models_mount_required:
    description: Whether O(models_dir), or the directory given here, must be a mount point,
      C(ollama_models_mount_required).
    type: raw
    default: false
  shared:
    description: Whether the group of the account has read access to the store, for a mirror, C(ollama_mirror_enabled).
    type: bool
    default: false
  platforms:
    description: Properties that differ between systems, by C(ID) and version of C(/etc/os-release), such as V(debian12)
      or V(debian).
    type: dict
    default: {}
  models:
    description: Declared models, C(ollama_models).
    type: list
    elements: raw
    default: []
  lock:
    description: Digests of the models by name, or the path of a lock file on the controller, C(ollama_models_lock).
    type: raw
    default: {}
  mirrors:
    description: Registries to try first, C(ollama_mirrors) and the mirrors of the inventory.
    type: list
    elements: str
    default: []
  look_up_models:
    description:
      - Whether to request the manifests of declared models that are not on the host, or have another digest than their
        pin, from their sources. The module fails before anything changes if a model is in no source.
      - A source that cannot be reached is not an error. All requests together take at most about 10 seconds. No request
        is sent if all models are on the host.
    type: bool
    default: false
  model:
    description:
      - Options of M(kaido.ollama.model). If the server has no pending step, its models are compared with O(models) and
        O(lock) in the same call, and RV(models) is the result of that module if nothing has to change.
      - The options that this module has, too, and those that follow from its own ones, such as C(server), are
        not to be set.
    type: dict
    default: {}
  allow_vulnerable_version:
    description: Whether versions before 0.35.0 are allowed, which have known vulnerabilities (CVE-2026-103663),
      C(ollama_allow_vulnerable_version).
    type: bool
    default: false
  allow_open_network:
    description: Whether the server may listen on other addresses than loopback, C(ollama_allow_open_network).
    type: bool
    default: false
  accept_store_migration:
    description: Whether an upgrade or downgrade across 0.40 with models in the store is allowed,
      C(ollama_accept_store_migration).
    type: bool
    default: false
notes:
  - The codes in RV(failure.code) are C(root_required), C(version_invalid), C(version_vulnerable), C(checksum_unknown),
    C(digest_invalid), C(checksum_insecure), C(setting_unknown), C(setting_invalid), C(environment_invalid),
    C(limit_unknown), C(limit_invalid), C(value_invalid), C(gpu_unusable), C(python_unsupported),
    C(ansible_unsupported), C(lockfile_invalid), C(server_exposed), C(name_invalid), C(model_in_cloud),
    C(model_invalid), C(model_duplicate), C(url_invalid), C(architecture_unsupported), C(variant_unsupported),
    C(init_unsupported), C(installation_foreign), C(store_foreign), C(store_migration_not_accepted), C(disk_full),
    C(directory_not_mounted), C(program_missing), C(port_taken), C(account_unsuitable), C(account_changed),
    C(drop_in_conflict), C(unit_masked), C(file_unreadable),
    C(response_invalid), C(store_unsafe), C(privileges_not_dropped), C(tag_missing), C(tag_refused),
    C(digest_not_offered) and C(model_missing).
seealso:
  - module: kaido.ollama.release
"""

EXAMPLES = r"""
- name: Determine pending changes
  kaido.ollama.preflight:
    version: 0.35.1
    checksums: "{{ ollama__checksums['0.35.1'] }}"
    unit: "{{ lookup('ansible.builtin.template', 'ollama.service.j2') }}"
    models_dir: /usr/share/ollama/.ollama/models
  become: true
  register: pending

- name: Show the reasons
  ansible.builtin.debug:
    var: pending.reasons

- name: Determine pending changes of the settings
  kaido.ollama.preflight:
    version: 0.35.1
    checksums: "{{ ollama__checksums['0.35.1'] }}"
    unit: "{{ lookup('ansible.builtin.template', 'ollama.service.j2') }}"
    models_dir: /usr/share/ollama/.ollama/models
    settings:
      keep_alive: 30m
      max_loaded_models: 2
  become: true

- name: Determine pending changes on a host with a GPU
  kaido.ollama.preflight:
    version: 0.35.1
    checksums: "{{ ollama__checksums['0.35.1'] }}"
    unit: "{{ lookup('ansible.builtin.template', 'ollama.service.j2') }}"
    models_dir: /usr/share/ollama/.ollama/models
    gpu: preferred
  become: true

- name: Fetch the checksum of a release that is not in the collection
  kaido.ollama.preflight:
    version: 0.40.14
    unit: "{{ lookup('ansible.builtin.template', 'ollama.service.j2') }}"
    models_dir: /usr/share/ollama/.ollama/models
    fetch_checksum: true
    base_url: https://mirror.example.lan/ollama
  become: true
"""

RETURN = r"""
todo:
  description: The steps that are needed, in order, out of packages, release, backup, account, directories, move, unit,
    environment and service.
  returned: success
  type: list
  elements: str
  sample: [release, service]
reasons:
  description: The reason for each step.
  returned: success
  type: dict
  sample:
    release: install 0.35.1 from
      https://github.com/ollama/ollama/releases/download/v0.35.1/ollama-linux-amd64.tar.zst, switch from 0.34.4 to
        0.35.1
    service: the server runs another release
address:
  description: The listen address of the server.
  returned: success
  type: str
  sample: 127.0.0.1:11434
api_url:
  description: The base URL of the server for programs on the host itself.
  returned: success
  type: str
  sample: http://127.0.0.1:11434
environment:
  description: The environment variables of O(settings). Those of O(environment) are not shown.
  returned: success
  type: dict
  sample:
    OLLAMA_HOST: 127.0.0.1:11434
settings_changes:
  description: The variables that change in the environment file of the server, one line each. Values of O(environment)
    are hidden.
  returned: success
  type: list
  elements: str
  sample: ["OLLAMA_KEEP_ALIVE: 5m -> 30m"]
release:
  description: The release for this host.
  returned: success
  type: dict
  contains:
    checksums:
      description: The checksums of its archives by name, beginning with the base archive.
      type: dict
      returned: always
    missing:
      description: The archives that have to be unpacked; empty if the release is on the host.
      type: list
      returned: always
    version:
      description: Its version.
      type: str
      returned: always
    before:
      description: The release in use, including an installation by Ollama's install script; V(null) if there is none.
      type: str
      returned: always
  sample:
    checksums:
      ollama-linux-amd64.tar.zst: sha256:9fcd79ac4575b2bd31b992eee18b1000c8ad126b451627c8f8cd091714cfbb10
    missing:
      - ollama-linux-amd64.tar.zst
    version: 0.35.1
    before: 0.34.4
move:
  description: The model store that has to be moved to O(models_dir), as in M(kaido.ollama.store_move); V(null) if there
    is none.
  returned: success
  type: dict
  contains:
    source:
      description: The directory that the server uses.
      type: str
      returned: always
    target:
      description: The new directory.
      type: str
      returned: always
    switched:
      description: Whether only the files of the previous directory have to be removed.
      type: bool
      returned: always
    files:
      description: The number of files.
      type: int
      returned: always
    bytes:
      description: Their size.
      type: int
      returned: always
    missing:
      description: The bytes that have to be copied to another file system.
      type: int
      returned: always
    free:
      description: The bytes that are free for O(models_dir).
      type: int
      returned: always
  sample: null
adopts:
  description: The installation by Ollama's install script that this run adopts; V(null) if there is none.
  returned: success
  type: dict
  contains:
    version:
      description: Its version.
      type: str
      returned: always
    unit:
      description: Whether its unit is replaced.
      type: bool
      returned: always
    drop_ins:
      description: The drop-ins, which are kept.
      type: list
      elements: str
      returned: always
    dropped:
      description: The variables that were set for it and that will no longer apply.
      type: list
      elements: str
      returned: always
  sample: null
directories:
  description: The directories to create, and the parts of the store that get another owner or mode; see
    M(kaido.ollama.store_directories).
  returned: success
  type: list
  elements: str
  sample: [/usr/share/ollama/.ollama/models]
unit:
  description: The text of the unit for this host. Targets of links in the store that belong to root are added to
    O(unit).
  returned: success
  type: str
  sample: "# Managed by kaido.ollama\n[Service]\nExecStart=/opt/ollama/current/bin/ollama serve\n"
account_exists:
  description: Whether the account exists. An existing account is used unchanged, except that it is added to the groups
    of the GPU devices.
  returned: success
  type: bool
  sample: true
former_user:
  description: The account of the adopted server, if it is another account; otherwise empty.
  returned: success
  type: str
  sample: ''
platform:
  description: The properties of this system, from O(platforms).
  returned: success
  type: dict
  sample:
    packages:
      - zstd
gpu:
  description:
    - The GPUs of this host; empty with O(gpu=off).
    - RV(ignore:count), RV(ignore:usable), RV(ignore:summary), RV(ignore:vram) in bytes and RV(ignore:variant), as in
      M(kaido.ollama.gpu_info); RV(ignore:problem), the reason why no GPU can be used; RV(ignore:settings), the
      variables of the server that determine the memory of models.
  returned: success
  type: dict
  sample:
    count: 1
    usable: true
    summary: 'NVIDIA GeForce RTX 4090 at 0000:01:00.0: usable (cuda)'
    vram: 25757220864
    variant: ''
    settings: {}
groups:
  description: The groups that the account needs for the GPU devices.
  returned: success
  type: list
  elements: str
  sample: [render, video]
models:
  description: The result of M(kaido.ollama.model) if it changes nothing, in check mode also if it would change
    something; V(null) if that module has to be called.
  returned: success
  type: dict
  sample: null
running:
  description: Whether the server runs now.
  returned: success
  type: bool
  sample: true
services:
  description: The services of this collection, apart from the server, that are at least partly on the host, as in
    M(kaido.ollama.service_info).
  returned: success
  type: list
  elements: str
  sample: [mirror]
failure:
  description: The failure in machine-readable form.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
  sample:
    code: root_required
"""

import json
import typing as t
from dataclasses import asdict, replace

from ..module_utils._core import proxy
from ..module_utils._core.errors import OllamaError
from ..module_utils._core.host import require_root
from ..module_utils._core.options import Module
from ..module_utils._gpu import memory as gpu_memory
from ..module_utils._gpu import verification
from ..module_utils._models import availability, call
from ..module_utils._preflight import adoption, host_facts, host_request, pending, suitability, unit_file
from ..module_utils._preflight.host_facts import HostFacts
from ..module_utils._preflight.host_request import HostRequest, ValidRequest
from ..module_utils._preflight.store_facts import FIRST_WITH_NEW_STORE
from ..module_utils._release.download import fetch_checksums
from ..module_utils._release.release import parse_version
from ..module_utils._server.argspec import INSTALLATION, SERVER, finish
from ..module_utils._service import units


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Validate, survey and compare; returns the result of the module."""
    gpu = {} if params["gpu"] == "off" else verification.overview(params["version"], params["user"])
    request = host_request.from_options(params)
    valid = host_request.validate(request)
    require_root("installing a server")
    host = host_facts.gather(request, valid.address.port)
    request = replace(request, unit=unit_file.unit_with_targets(request.unit, host.directories.targets))
    _check_gpu(params["gpu"], gpu, params["driver_pending"])
    request, warnings = _with_variant(request, host, gpu.get("variant", ""), params["gpu"])
    if host.authority_problem and not check_mode:
        raise OllamaError("file_unreadable", host.authority_problem, variable=host.authority_problem.split(":")[0])
    way = proxy.of_server({**valid.environment, **valid.raw_environment})
    fetched, notes = _fetch(request, host, proxy.way_out(way, params["proxy"]))
    warnings += notes
    release = suitability.check_host(request, valid, host, fetched)
    if params["look_up_models"]:
        _look_up_models(request, valid, host, proxy.way_out(way), check_mode)
    steps = pending.pending_steps(request, valid, host, release)
    warnings += filter(None, [host_request.vulnerability(host.releases.used)])
    # An earlier task may create the file outside of check mode.
    warnings += filter(None, [host.authority_problem])
    warnings += [f"ollama_gpu: {gpu['problem']}"] if params["gpu"] == "preferred" and gpu.get("problem") else []
    models = None if steps or not params["model"] else _models(params, valid, gpu, check_mode)
    # Shown once.
    warnings += (models or {}).pop("warnings", [])
    return {
        "changed": False,
        "todo": list(steps),
        "reasons": steps,
        "address": str(valid.address),
        "api_url": valid.address.local.url(),
        "environment": valid.environment,
        "settings_changes": pending.settings_changes(valid, host),
        "release": {
            "version": release.version,
            "variants": list(request.variants),
            "checksums": release.archives,
            "missing": [] if host.releases.has(release) else list(release.archives or {}),
            "before": host.releases.used,
        },
        "move": asdict(host.move) if host.move else None,
        "adopts": adoption.adoption(valid, host),
        "directories": list(host.directories.wrong),
        "unit": request.unit,
        "account_exists": host.account is not None,
        "former_user": host_facts.former_user(request, host),
        "gpu": gpu and dict(gpu, settings=gpu_memory.variables(valid.environment)),
        "platform": request.platforms.get(host.platform, {}),
        "groups": list(host.device_groups),
        "models": models,
        "running": host.service.active,
        "services": units.found(),
        "warnings": warnings,
    }


def _look_up_models(
    request: HostRequest, valid: ValidRequest, host: HostFacts, environment: t.Mapping[str, str], check_mode: bool
) -> None:
    """Refuse models that no source has."""
    availability.check(
        valid.models,
        host.move.source if host.move and not host.move.switched else request.models_dir,
        valid.mirrors,
        lists=parse_version(request.version) >= FIRST_WITH_NEW_STORE,
        environment=environment,
        check_mode=check_mode,
    )


def _models(
    params: t.Mapping[str, t.Any], valid: ValidRequest, gpu: t.Mapping[str, t.Any], check_mode: bool
) -> dict[str, t.Any] | None:
    """Return the result of module model where nothing has to change; the options are those of the role's task."""
    environment = valid.environment
    given = {
        **params["model"],
        "api_url": valid.address.local.url(),
        "server": {
            "version": params["version"],
            "address": str(valid.address),
            "unit": "ollama.service",
            "vram": gpu.get("vram", 0),
            "gpu_settings": gpu_memory.variables(environment) if gpu else {},
        },
        "models": params["models"],
        "lock": params["lock"],
        "mirrors": params["mirrors"],
        "models_dir": params["models_dir"],
        "allow_cloud": environment.get("OLLAMA_NO_CLOUD", "1") == "0",
        "load_timeout": environment.get("OLLAMA_LOAD_TIMEOUT", "5m"),
        "registry_environment": proxy.of_server({**environment, **valid.raw_environment}),
    }
    return call.unchanged(given, check_mode)


def _check_gpu(gpu: str, found: t.Mapping[str, t.Any], driver_pending: bool) -> None:
    """Refuse a host without the required GPU, before a release or a model is downloaded."""
    if gpu != "required" or (found["count"] and (found["usable"] or driver_pending)):
        return
    raise OllamaError(
        "gpu_unusable",
        f"ollama_gpu: required, but this host has {found['summary']}; set ollama_gpu: preferred to serve from the CPU"
        + (", or gpu_driver_vendor to install a driver" if found["count"] else ""),
        variable="ollama_gpu",
    )


def _with_variant(request: HostRequest, host: HostFacts, variant: str, gpu: str) -> tuple[HostRequest, list[str]]:
    """Add the archive that the GPU of the host needs to the request, unless its checksum is unknown."""
    if not variant or variant in request.variants:
        return request, []
    more = replace(request, variants=(*request.variants, variant))
    try:
        suitability.checksums_of(more, host)
    except OllamaError as exc:
        about_it = f"-{variant}." in str(exc.details.get("archive"))
        if about_it and not request.fetch_checksum:
            why = f"this host's GPU needs the archive {variant} of {request.version}, and without it the CPU is used"
            if gpu == "required":
                raise OllamaError(exc.code, f"{why}: {exc.message}", **exc.details) from None
            return request, [f"{why}: {exc.message}"]
    return more, []


def _fetch(request: HostRequest, host: HostFacts, environment: t.Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the checksums that had to be fetched, and a note about them."""
    try:
        suitability.checksums_of(request, host)
        return {}, []
    except OllamaError as exc:
        if exc.code != "checksum_unknown" or not request.fetch_checksum:
            raise
    fetched = fetch_checksums(request.base_url, request.version, request.ca_path, environment)
    pinned = json.dumps({request.version: suitability.checksums_of(request, host, fetched)})
    return fetched, [f"took checksums from the site of the release; to pin them: ollama_release_checksums: {pinned}"]


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "version": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "checksum": {"type": "str", "default": ""},
            "checksums": {"type": "dict", "default": {}},
            "known_checksums": {"type": "dict", "default": {}},
            "fetch_checksum": {"type": "bool", "default": False},
            "variants": {"type": "list", "elements": "str", "default": []},
            "gpu": {"type": "str", "choices": ["required", "preferred", "off"], "default": "off"},
            "driver_pending": {"type": "bool", "default": False},
            "ca_path": {"type": "path"},
            "proxy": {"type": "str", "no_log": True},
            "base_url": {"type": "str", "default": "https://github.com/ollama/ollama/releases/download"},
            "environment": {"type": "str", "default": "{}", "no_log": True},
            "models_mount_required": {"type": "raw", "default": False},
            "shared": {"type": "bool", "default": False},
            "platforms": {"type": "dict", "default": {}},
            "lock": {"type": "raw", "default": {}},
            "model": {"type": "dict", "default": {}},
            "look_up_models": {"type": "bool", "default": False},
            **host_request.OPTIONS,
            **SERVER,
            **INSTALLATION,
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
