#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check an Ollama server and gather information about it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server_info
short_description: Check an Ollama server and gather information about it
version_added: 1.0.0
description:
  - Waits until a server answers, compares its version and its listening address with the expected ones, and returns the
    devices that it computes on.
  - With O(address) or O(unit) the module must run on the host of the server, usually with C(become). Otherwise it only
    uses the API.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama.api
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
  - kaido.ollama._attributes.action_group
options:
  startup_timeout:
    description: Seconds to wait for a server that does not answer yet. Check mode does not wait.
    type: float
    default: 30.0
  version:
    description: Fail unless the server has this version, for example V(0.35.1). Check mode does not compare.
    type: str
  address:
    description: Fail unless the server listens on this address, for example V(127.0.0.1:11434), and on no other address
      except loopback.
    type: str
  unit:
    description: The systemd unit of the server. Its journal contains the devices that the server computes on, see
      RV(compute).
    type: str
notes:
  - 'Failures have a stable RV(ignore:failure.code): V(server_unreachable), V(version_mismatch), V(address_mismatch),
    V(value_invalid), V(url_invalid), V(tls_failed), V(redirect_refused), V(response_invalid).'
seealso:
  - module: kaido.ollama.model_info
  - module: kaido.ollama.service_info
"""

EXAMPLES = r"""
- name: Wait for the server
  kaido.ollama.server_info:
    startup_timeout: 120

- name: Verify the version and the address of the server
  kaido.ollama.server_info:
    version: 0.35.1
    address: 127.0.0.1:11434
  become: true

- name: Verify that the server computes on a GPU
  kaido.ollama.server_info:
    unit: ollama.service
  become: true
  register: server
  failed_when: server.failed or server.compute | rejectattr("library", "eq", "cpu") | length == 0

- name: Wait for a server on another host, from the controller
  kaido.ollama.server_info:
    api_url: http://big1.lan:11434
    startup_timeout: 10
  delegate_to: localhost
"""

RETURN = r"""
can_talk_to_ollama:
  description: Whether the server answered. V(false) only in check mode.
  returned: success
  type: bool
  sample: true
server_version:
  description: The version of the server, or null in check mode without a server.
  returned: success
  type: str
  sample: 0.35.1
compute:
  description:
    - The devices that the server found when it started, as listed in its journal, with V(library), V(name), V(total)
      and more. A single C(cpu) means that it found no usable GPU.
    - Empty unless O(unit) is given.
  returned: success
  type: list
  elements: dict
  sample:
    - library: CUDA
      name: CUDA0
      description: NVIDIA GeForce RTX 4090
      driver: '13.0'
      total: 23.5 GiB
ansible_facts:
  description: As in M(kaido.ollama.service_info).
  returned: with O(address)
  type: dict
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
    code: server_unreachable
"""

import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._core.options import Module
from ..module_utils._server.api import client
from ..module_utils._server.argspec import API, finish
from ..module_utils._service.server_checks import ExpectedServer, check_server, observed

SPEC: dict[str, t.Any] = {
    "startup_timeout": {"type": "float", "default": 30.0},
    "version": {"type": "str"},
    "address": {"type": "str"},
    "unit": {"type": "str"},
    **API,
}


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Check the server and return what was observed."""
    wait = params["startup_timeout"]
    if wait < 0:
        raise OllamaError("value_invalid", f"startup_timeout: invalid value {wait}; expected 0 or more")
    expected = ExpectedServer(params["version"], params["address"], params["unit"])
    version = check_server(client(params), expected, wait=wait, check_mode=check_mode)
    return {
        "changed": False,
        "can_talk_to_ollama": version is not None,
        "server_version": version,
        **observed(expected),
    }


def main() -> None:
    """Run the module."""
    finish(Module(argument_spec=SPEC, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
