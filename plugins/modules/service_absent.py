#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove services of this collection from a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_absent
short_description: Remove services of this collection from a host
version_added: 1.0.0
description:
  - Stops and disables units, closes their ports, and removes configuration, tokens, private keys, accounts and unit
    files. Packages such as nginx and HAProxy stay, and so do drop-ins and other files that this collection did not
    write.
  - The roles of this collection use it for services that a variable no longer enables. The Ollama server is removed by
    M(kaido.ollama.uninstall).
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  names:
    description:
      - The services to remove.
      - V(gateway) includes the key and the certificate of the private authority. V(client) is the endpoint description
        in C(/etc/kaido-ollama), with its keys.
    type: list
    elements: str
    choices: [mirror, balancer, gateway, forwarder, client]
    required: true
notes:
  - The codes in RV(failure.code) are C(root_required), C(service_running) and C(command_failed).
seealso:
  - module: kaido.ollama.service_info
  - module: kaido.ollama.uninstall
"""

EXAMPLES = r"""
- name: Remove the gateway and its balancer
  kaido.ollama.service_absent:
    names: [balancer, gateway]
  become: true

- name: Remove the mirror
  kaido.ollama.service_absent:
    names: [mirror]
  become: true
  register: mirror

- name: Show what was kept, and the reasons
  ansible.builtin.debug:
    var: mirror.kept

- name: Remove the endpoint description and the forwarder from a client
  kaido.ollama.service_absent:
    names: [forwarder, client]
  become: true

- name: Predict the removal of all services
  kaido.ollama.service_absent:
    names: [mirror, balancer, gateway, forwarder, client]
  check_mode: true
  become: true
"""

RETURN = r"""
actions:
  description: The actions that were performed, or in check mode would be performed, in order.
  returned: success
  type: list
  elements: str
  sample: [stop and disable ollama-mirror.service, remove /etc/ollama-mirror/tls.key]
kept:
  description: The paths that were kept, and the reasons.
  returned: success
  type: dict
  sample:
    /etc/ollama-gateway: it contains mine.pem
services:
  description: The services of this collection that are on the host afterwards.
  returned: success
  type: list
  elements: str
  sample: [mirror]
ansible_facts:
  description: The facts for the table of the module M(kaido.ollama.report).
  returned: success
  type: dict
  contains:
    ollama_listening:
      description: The TCP addresses at which the server and the services of this collection accept connections, as the
        host shows them afterwards.
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
      - service: server
        address: 127.0.0.1:11434
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
    code: service_running
"""

import typing as t

from ..module_utils._core.errors import finish
from ..module_utils._core.host import require_root
from ..module_utils._core.options import Module
from ..module_utils._service import units
from ..module_utils._service.removal import Removal


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Remove, or predict the removal; returns the module's result."""
    require_root("removing a service")
    removal = Removal(params["names"], check_mode=check_mode)
    removal.apply()
    return {
        "changed": bool(removal.actions),
        "actions": removal.actions,
        "kept": removal.kept,
        "services": units.found(),
        "ansible_facts": {"ollama_listening": units.listening()},
    }


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "names": {"type": "list", "elements": "str", "choices": [*units.SERVICES], "required": True},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
