#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather the state and the pending steps of a service of this collection."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_info
short_description: Gather the state and the pending steps of a service of this collection
version_added: 1.0.0
description:
  - The first step of the roles P(kaido.ollama.ollama_mirror#role), P(kaido.ollama.ollama_gateway#role) and
    P(kaido.ollama.ollama_client#role). It changes nothing and requires no gathered facts.
  - Compares a service with the host and returns the steps that are needed, so that later tasks run only if something
    differs. A service consists of a program of the distribution, files owned by root, and one unit.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
options:
  unit:
    description: The name of the unit. O(files) must contain it, as C(/etc/systemd/system/NAME). Without a unit, only
      files are compared.
    type: str
  user:
    description: The account of the service.
    type: str
  programs:
    description: The required programs. C(@nginx@) and C(@haproxy@) are replaced by the paths of the system. A restart
      is needed if one of them, or a library that a process of the unit uses, was replaced after the start, for example
      by a security update.
    type: list
    elements: path
    default: []
  files:
    description:
      - The files of the service as JSON, with RV(ignore:content), RV(ignore:mode) with the default V(0644), and
        RV(ignore:group) with the default V(root), by path. The owner is root.
      - RV(ignore:source) instead of a content is the path of another file on the host, of which this file is a copy.
      - A content of V(null) without a source means that the file or directory must not exist.
      - C(@nginx@), C(@haproxy@) and C(@ca_bundle@) in a content are replaced by the paths of the system.
      - The type is a string because Ansible masks the values of secret options wherever they occur, and the complete
        JSON text occurs nowhere else.
    type: str
    default: "{}"
  reads:
    description: Files that the service reads and others write. A reload is needed if one of them is newer than the
      start or last reload.
    type: list
    elements: path
    default: []
  listen:
    description: The listen addresses of the service, for example V(127.0.0.1:11480). Another program on one of them, or
      an address that this host does not have, is an error. A restart is needed if the unit listens on other addresses.
    type: list
    elements: str
    default: []
  listen_variable:
    description: The role variable with the port, for error messages. The variable with the address has the same name
      with C(_address) instead of C(_port).
    type: str
    default: port
  health:
    description: A URL on this host that answers with status 200 if the service works. Otherwise a restart is needed.
    type: str
  platforms:
    description: The paths that differ between systems, by the ID of C(/etc/os-release). Without an entry for the
      system, those of Debian are used.
    type: dict
    default: {}
  endpoint:
    description:
      - The path of an endpoint description in O(files). The module checks that the endpoint answers, accepts the
        token, and has the models.
      - An endpoint that does not answer is a warning. All other findings are errors, or warnings in check mode.
    type: path
  certificate:
    description: Options of M(kaido.ollama.gateway_certificate). RV(certificate) is the result of that module if nothing
      has to change.
    type: dict
notes:
  - The codes in RV(failure.code) are C(root_required), C(port_taken), C(address_unavailable), C(file_unreadable) and
    C(endpoint_invalid).
seealso:
  - module: kaido.ollama.preflight
"""

EXAMPLES = r"""
- name: Determine the pending steps of the mirror
  kaido.ollama.service_info:
    unit: ollama-mirror.service
    user: ollama-mirror
    programs: [/usr/sbin/nginx]
    files: "{{ ollama_mirror__files | to_json }}"
    listen: [127.0.0.1:11480]
  become: true
  register: mirror

- name: Determine which services of this collection are on the host
  kaido.ollama.service_info:
  become: true
  register: host

- name: Show the services
  ansible.builtin.debug:
    var: host.services

- name: Compare files without a unit
  kaido.ollama.service_info:
    files: '{"/etc/kaido-ollama/note": {"content": "Managed by Ansible\n", "mode": "0644"}}'
  become: true

- name: Check that the mirror answers
  kaido.ollama.service_info:
    unit: ollama-mirror.service
    health: http://127.0.0.1:11480/v2/
  become: true
"""

RETURN = r"""
todo:
  description: The required steps in order, out of packages, account, files, and either restart or reload.
  returned: success
  type: list
  elements: str
  sample: [files, reload]
reasons:
  description: The reason for each step.
  returned: success
  type: dict
  sample:
    files: "/etc/ollama-gateway/tokens.conf: missing or different"
    reload: "/etc/ollama-gateway/tokens.conf: changed since it was last read"
files:
  description: The files that are missing, obsolete, or differ in content, owner, group or mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/ollama-gateway/tokens.conf]
services:
  description: The services of this collection that are at least partly on the host, out of mirror, balancer, gateway,
    forwarder and client. Units without the marker of this collection are ignored.
  returned: success
  type: list
  elements: str
  sample: [gateway]
paths:
  description: The paths of nologin, nginx, haproxy and ca_bundle on this system.
  returned: success
  type: dict
  sample:
    nologin: /usr/sbin/nologin
    nginx: /usr/sbin/nginx
    haproxy: /usr/sbin/haproxy
    ca_bundle: /etc/ssl/certs/ca-certificates.crt
certificate:
  description: With O(certificate), the result of M(kaido.ollama.gateway_certificate) if it changes nothing, in check
    mode also if it would change something; V(null) if that module has to be called.
  returned: success
  type: dict
  sample:
    changed: false
    holds: true
    reason: ""
    request: ""
ansible_facts:
  description: The facts for the table of the module M(kaido.ollama.report).
  returned: success
  type: dict
  contains:
    ollama_listening:
      description: The TCP addresses at which the server and the services of this collection accept connections, as the
        host shows them.
      type: list
      elements: dict
      returned: always
      contains:
        service:
          description: V(server), or a service as in RV(services).
          type: str
          returned: always
        address:
          description: Address and port.
          type: str
          returned: always
      sample:
        - service: gateway
          address: 0.0.0.0:11443
  sample:
    ollama_listening:
      - service: gateway
        address: 0.0.0.0:11443
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
    code: port_taken
"""

import json
import typing as t
from dataclasses import fields

from ..module_utils._core.address import Address
from ..module_utils._core.errors import OllamaError, finish, json_object
from ..module_utils._core.host import platform_of, require_root
from ..module_utils._core.options import Module
from ..module_utils._server import settings
from ..module_utils._service import certificate_call, units
from ..module_utils._service.endpoint_check import check
from ..module_utils._service.pending import ManagedFile, ServiceSpec, check_listeners, pending_steps
from ..module_utils._service.survey import check_addresses, survey

_PATHS = {
    "nologin": "/usr/sbin/nologin",
    "nginx": "/usr/sbin/nginx",
    "haproxy": "/usr/sbin/haproxy",
    "ca_bundle": "/etc/ssl/certs/ca-certificates.crt",
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Compare the service with the host; returns the module's result."""
    require_root("installing a service")
    paths = _paths(params["platforms"])
    files = {path: _file(path, row, paths) for path, row in json_object(params["files"], "files").items()}
    spec = ServiceSpec(
        unit=params["unit"],
        user=params["user"],
        programs=[_resolved(program, paths) for program in params["programs"]],
        files=files,
        reads=params["reads"],
        listen=[_address(address, params["listen_variable"]) for address in params["listen"]],
        health=params["health"],
    )
    check_addresses(spec, params["listen_variable"])
    state = survey(spec)
    check_listeners(state, params["listen_variable"])
    steps = pending_steps(spec, state)
    return {
        "changed": False,
        "todo": list(steps),
        "reasons": steps,
        "files": list(state.differing),
        "services": units.found(),
        "paths": paths,
        "certificate": certificate_call.unchanged(params["certificate"], check_mode) if params["certificate"] else None,
        "warnings": _endpoint_warnings(params["endpoint"], files, check_mode),
        "ansible_facts": {"ollama_listening": units.listening()},
    }


def _address(text: str, variable: str) -> Address:
    try:
        return settings.parse_host(text)
    except ValueError as exc:
        raise OllamaError("value_invalid", f"{variable or 'listen'}: invalid value {text!r}; {exc}") from None


def _paths(platforms: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, str]:
    for name, row in platforms.items():
        if not isinstance(row, dict):
            raise OllamaError("value_invalid", f"platforms.{name}: invalid value {row!r}; expected a mapping")
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            own = platforms.get(platform_of(file.read(), platforms), {})
    except OSError:
        own = {}
    return {name: str(own.get(name, default)) for name, default in _PATHS.items()}


def _resolved(text: str, paths: t.Mapping[str, str]) -> str:
    for name, path in paths.items():
        text = text.replace(f"@{name}@", path)
    return text


def _file(path: str, row: t.Any, paths: t.Mapping[str, str]) -> ManagedFile:
    known = {field.name for field in fields(ManagedFile)}
    valid = isinstance(row, dict) and set(row) <= known
    if not valid or not all(value is None or isinstance(value, str) for value in row.values()):
        expected = f"strings for {', '.join(sorted(known))}"
        raise OllamaError("value_invalid", f"files.{path}: invalid value (hidden); expected {expected}")
    file = ManagedFile(**row)
    content = file.content
    if file.source:
        try:
            with open(file.source, encoding="utf-8", errors="replace", newline="") as stream:
                content = stream.read()
        except OSError as exc:
            raise OllamaError(
                "file_unreadable", f"{file.source}: cannot be read on this host: {exc.strerror}"
            ) from None
    elif content is not None:
        content = _resolved(content, paths)
    return ManagedFile(content, file.mode, file.group, file.source)


def _endpoint_warnings(path: str | None, files: t.Mapping[str, ManagedFile], check_mode: bool) -> list[str]:
    """Check an endpoint; returns what may be temporary.

    :raises OllamaError: ``endpoint_invalid`` for a description that is wrong.
    """
    described = files[path].content if path and path in files else None
    if not described:
        return []
    findings = check(json.loads(described), {name: file.content for name, file in files.items()})
    certain = [finding.text for finding in findings if finding.certain]
    if certain and not check_mode:
        raise OllamaError("endpoint_invalid", "; ".join(certain))
    return [finding.text for finding in findings]


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "unit": {"type": "str"},
            "user": {"type": "str"},
            "programs": {"type": "list", "elements": "path", "default": []},
            "files": {"type": "str", "default": "{}", "no_log": True},
            "reads": {"type": "list", "elements": "path", "default": []},
            "listen": {"type": "list", "elements": "str", "default": []},
            "listen_variable": {"type": "str", "default": "port"},
            "health": {"type": "str"},
            "platforms": {"type": "dict", "default": {}},
            "endpoint": {"type": "path"},
            "certificate": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
