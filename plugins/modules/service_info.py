#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module service_look: see, once, what a service of this collection lacks on its host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_info
short_description: See what a service of this collection lacks on its host
version_added: 0.1.0
description:
  - The first step of the roles P(kaido.ollama.ollama_mirror#role), P(kaido.ollama.ollama_gateway#role) and
    P(kaido.ollama.ollama_client#role). It changes nothing and needs no gathered facts.
  - Compares a service, made of a distribution's program, files of root's and one unit, with what is on the host, and
    returns the steps that are needed, so that the tasks after it run only where there is something to do.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
options:
  unit:
    description: The name of the unit. Its text is to be among O(files), as C(/etc/systemd/system/NAME). Without one,
      only files are compared.
    type: str
  user:
    description: The account that runs it.
    type: str
  programs:
    description: The programs that it needs. A restart is needed if one of them, or a library that a process of the
      unit uses, was replaced after the start, as security updates do.
    type: list
    elements: path
    default: []
  files:
    description:
      - The files that belong to it, as a JSON text; path to RV(ignore:content), RV(ignore:mode), V(0644) unless said
        otherwise, and RV(ignore:group), V(root) unless said otherwise. All belong to root.
      - Content V(null) means that there must be no such file or directory.
      - A text because Ansible hides the values of secret options wherever they appear, and a file as a whole appears
        nowhere else.
    type: str
    default: "{}"
  reads:
    description: Files that others write and the service reads. Where one is newer than what it last read, a reload is
      needed.
    type: list
    elements: path
    default: []
  listen:
    description: Where it will listen, as V(127.0.0.1:11480). Another program there is a failure. A restart is needed if
      the unit listens elsewhere.
    type: list
    elements: str
    default: []
  listen_variable:
    description: The role's variable to name in that case.
    type: str
    default: port
  health:
    description: A URL on this host that answers 200 while all is well. Where it does not, a restart is needed.
    type: str
notes:
  - The codes in RV(failure.code) are C(not_root) and C(port_taken).
seealso:
  - module: kaido.ollama.preflight
"""

EXAMPLES = r"""
- name: Look at the mirror
  kaido.ollama.service_info:
    unit: ollama-mirror.service
    user: ollama-mirror
    programs: [/usr/sbin/nginx]
    files: "{{ ollama_mirror__files | to_json }}"
    listen: [0.0.0.0:11480]
  register: look
"""

RETURN = r"""
todo:
  description: The steps that are needed, in order, out of packages, account, files, and either restart or reload.
  returned: success
  type: list
  elements: str
  sample: [files, reload]
reasons:
  description: Why each of them is needed.
  returned: success
  type: dict
  sample:
    files: "/etc/ollama-gateway/tokens.conf: missing or different"
    reload: "/etc/ollama-gateway/tokens.conf: changed since it was last read"
files:
  description: The files that are missing, or differ in content, owner, group or mode, or must go.
  returned: success
  type: list
  elements: str
  sample: [/etc/ollama-gateway/tokens.conf]
services:
  description: The services of this collection of which anything is on the host, out of mirror, balancer, gateway,
    forwarder and client. Units without the marker of this collection do not count.
  returned: success
  type: list
  elements: str
  sample: [gateway]
ansible_facts:
  description: What the table of module M(kaido.ollama.report) shows.
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

from ..module_utils._core.errors import OllamaError
from ..module_utils._server import settings
from ..module_utils._server.argspec import finish
from ..module_utils._service import units


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Look and compare; returns the module's result."""
    if os.geteuid() != 0:
        raise OllamaError("not_root", "a service is installed as root; set become: true")
    wanted = units.Wanted(
        unit=params["unit"],
        user=params["user"],
        programs=params["programs"],
        files={path: units.File(**file) for path, file in json.loads(params["files"]).items()},
        reads=params["reads"],
        listen=[settings.parse_host(address) for address in params["listen"]],
        health=params["health"],
    )
    host = units.look(wanted)
    units.judge(host, params["listen_variable"])
    steps = units.todo(wanted, host)
    return {
        "changed": False,
        "todo": list(steps),
        "reasons": steps,
        "files": list(host.differing),
        "services": units.found(),
        "ansible_facts": {"ollama_listening": units.listening()},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str"},
            "user": {"type": "str"},
            "programs": {"type": "list", "elements": "path", "default": []},
            "files": {"type": "str", "default": "{}", "no_log": True},
            "reads": {"type": "list", "elements": "path", "default": []},
            "listen": {"type": "list", "elements": "str", "default": []},
            "listen_variable": {"type": "str", "default": "port"},
            "health": {"type": "str"},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
