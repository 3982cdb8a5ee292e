# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that turns the variables of role ollama_client into the files that services read, or says what is wrong."""

from __future__ import annotations

import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._service.endpoint import EndpointSpec, plan

DOCUMENTATION = r"""
name: endpoint
short_description: Describe an LLM endpoint for services
version_added: 0.1.0
description:
  - Internal to the role P(kaido.ollama.ollama_client#role). Checks its variables and returns the files that they
    become.
  - A filter, because keys then go through no task's arguments or result.
author:
  - kaido.ollama contributors (@kaido)
options:
  _input:
    description: The variables without C(ollama_client_), and what the role found in the inventory.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the endpoint
  ansible.builtin.debug:
    msg: "{{ (wanted | kaido.ollama.endpoint).endpoint }}"
  vars:
    wanted:
      provider: local
      local_url: http://127.0.0.1:11434
      providers: {local: {model: tiny}}
"""

RETURN = r"""
_value:
  description: What is wrong, or what is to be written.
  type: dict
  contains:
    problem:
      description: What is wrong, in one line; empty where nothing is.
      type: str
      returned: always
    endpoint:
      description: The description; V(null) where the provider is V(none).
      type: dict
      returned: when nothing is wrong
    files:
      description: All files by path, as module M(kaido.ollama.service_info) takes them; with keys in them.
      type: dict
      returned: when nothing is wrong
    needs_gateway_ca:
      description: Whether the certificate of the gateway's private authority is to be fetched.
      type: bool
      returned: when nothing is wrong
    forwards:
      description: Whether there is to be a forwarder.
      type: bool
      returned: when nothing is wrong
"""


def endpoint(wanted: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the plan, or the problem: an exception would reach people only wrapped in others."""
    try:
        return {"problem": "", **plan(EndpointSpec(**wanted))}
    except OllamaError as exc:
        return {"problem": exc.message}


class FilterModule:
    """What Ansible asks for the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"endpoint": endpoint}
