#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module preflight: validate what is wanted of an Ollama server and look, once, at what its host lacks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Validate what is wanted of an Ollama server and look at its host
version_added: 0.1.0
description:
  - The first step of the role P(kaido.ollama.ollama#role). It changes nothing, needs no gathered facts and no program
    but Python.
  - Refuses what cannot be met in one line that names the role's variable, its value and what is allowed, before
    anything changes.
  - Returns the steps that this host still needs, so that the tasks after it run only where there is something to do.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
  - kaido.ollama._attributes.action_group
options:
  version:
    description: The wanted release, C(ollama_version).
    type: str
    required: true
  unit:
    description: The text that the systemd unit is to have.
    type: str
    required: true
  models_dir:
    description: The directory of the models, C(ollama_models_dir).
    type: path
    required: true
  checksum:
    description: The checksum of the release archive, C(ollama_release_checksum); empty means to take it from
      O(checksums).
    type: str
    default: ""
  checksums:
    description: The known checksums of the wanted release, by archive name.
    type: dict
    default: {}
  base_url:
    description: Where releases are, C(ollama_release_base_url).
    type: str
    default: https://github.com/ollama/ollama/releases/download
  keep:
    description: How many releases stay on the host, C(ollama_release_keep).
    type: int
    default: 2
  settings:
    description: The server's settings, C(ollama_settings).
    type: dict
    default: {}
  environment:
    description:
      - Further environment variables, C(ollama_environment), as a JSON text.
      - A text because Ansible hides the values of secret options wherever they appear, and a value such as V(1)
        appears everywhere.
    type: str
    default: "{}"
  models:
    description: The wanted models, C(ollama_models). Only their names are looked at here.
    type: list
    elements: raw
    default: []
  install_dir:
    description: Where releases live, C(ollama_install_dir).
    type: path
    default: /opt/ollama
  bin_dir:
    description: Where the link to the program is.
    type: path
    default: /usr/local/bin
  home:
    description: The account's home directory.
    type: path
    default: /usr/share/ollama
  user:
    description: The account that runs the server, C(ollama_user).
    type: str
    default: ollama
  group:
    description: The account's group, C(ollama_group).
    type: str
    default: ollama
  allow_vulnerable_version:
    description: Whether versions before 0.34.3 are allowed, C(ollama_allow_vulnerable_version).
    type: bool
    default: false
  allow_open_network:
    description: Whether the server may listen on other addresses than loopback, C(ollama_allow_open_network).
    type: bool
    default: false
  accept_store_migration:
    description: Whether crossing 0.40 with models in the store is allowed, C(ollama_accept_store_migration).
    type: bool
    default: false
notes:
  - The codes in RV(failure.code) are C(not_root), C(bad_version), C(vulnerable_version), C(unknown_checksum),
    C(invalid_checksum), C(unknown_setting),
    C(bad_setting), C(bad_environment), C(bad_option), C(open_network), C(invalid_name), C(cloud_model),
      C(unsupported_architecture),
    C(unsupported_init), C(foreign_install), C(store_migration), C(no_zstd) and C(port_taken).
seealso:
  - module: kaido.ollama.release
"""

EXAMPLES = r"""
- name: Look at the host
  kaido.ollama.preflight:
    version: 0.35.1
    checksums: "{{ ollama__checksums['0.35.1'] }}"
    unit: "{{ lookup('ansible.builtin.template', 'ollama.service.j2') }}"
    models_dir: /usr/share/ollama/.ollama/models
    settings:
      keep_alive: 30m
  register: look
"""

RETURN = r"""
todo:
  description: The steps that are needed, in order, out of packages, release, account, directories, unit, environment
    and service.
  returned: success
  type: list
  elements: str
  sample: [release, service]
reasons:
  description: Why each of them is needed.
  returned: success
  type: dict
  sample:
    release: install 0.35.1 from
      https://github.com/ollama/ollama/releases/download/v0.35.1/ollama-linux-amd64.tar.zst, switch from 0.34.4 to
        0.35.1
    service: the server runs another release
address:
  description: Where the server is to listen.
  returned: success
  type: str
  sample: 127.0.0.1:11434
api_url:
  description: Where programs on the host itself reach the server.
  returned: success
  type: str
  sample: http://127.0.0.1:11434
environment:
  description: The variables that O(settings) become. Those of O(environment) are not shown.
  returned: success
  type: dict
  sample:
    OLLAMA_HOST: 127.0.0.1:11434
release:
  description: The release archive for this host.
  returned: success
  type: dict
  contains:
    url:
      description: Where it is.
      type: str
      returned: always
    checksum:
      description: Its checksum.
      type: str
      returned: always
    before:
      description: The release in use; V(null) when there is none.
      type: str
      returned: always
    before_checksum:
      description: The checksum of the archive that it came from; V(null) when there is none.
      type: str
      returned: always
groups:
  description: The groups that the account is to be in, for the GPU devices.
  returned: success
  type: list
  elements: str
  sample: [render, video]
running:
  description: Whether the server runs now.
  returned: success
  type: bool
  sample: true
failure:
  description: Why it failed.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable name of the kind of failure, see the notes.
      type: str
      returned: always
    message:
      description: The same as RV(ignore:msg).
      type: str
      returned: always
"""

import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _preflight
from ..module_utils._argspec import finish
from ..module_utils._errors import OllamaError


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Validate, look and compare; returns the module's result."""
    environment = json.loads(params["environment"])
    wanted = _preflight.Wanted(**{**params, "environment": environment})
    checked = _preflight.check(wanted)
    if os.geteuid() != 0:
        raise OllamaError("not_root", "a server is installed as root; set become: true")
    host = _preflight.look(wanted, checked.address.port)
    release = _preflight.judge(wanted, checked, host)
    steps = _preflight.todo(wanted, checked, host, release)
    before = host.releases.current
    return {
        "changed": False,
        "todo": list(steps),
        "reasons": steps,
        "address": str(checked.address),
        "api_url": checked.address.api_url,
        "environment": checked.environment,
        "release": {
            "url": release.url,
            "checksum": release.checksum,
            "before": before,
            "before_checksum": next(iter(host.releases.releases.get(before or "", {}).values()), None),
        },
        "groups": list(host.device_groups),
        "running": host.service.active,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "models_dir": {"type": "path", "required": True},
            "checksum": {"type": "str", "default": ""},
            "checksums": {"type": "dict", "default": {}},
            "base_url": {"type": "str", "default": "https://github.com/ollama/ollama/releases/download"},
            "keep": {"type": "int", "default": 2},
            "settings": {"type": "dict", "default": {}},
            "environment": {"type": "str", "default": "{}", "no_log": True},
            "models": {"type": "list", "elements": "raw", "default": []},
            "install_dir": {"type": "path", "default": "/opt/ollama"},
            "bin_dir": {"type": "path", "default": "/usr/local/bin"},
            "home": {"type": "path", "default": "/usr/share/ollama"},
            "user": {"type": "str", "default": "ollama"},
            "group": {"type": "str", "default": "ollama"},
            "allow_vulnerable_version": {"type": "bool", "default": False},
            "allow_open_network": {"type": "bool", "default": False},
            "accept_store_migration": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
