# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that turns the variables of role ollama_client into the files that services read."""

from __future__ import annotations

import typing as t

from ..module_utils._core.errors import OllamaError
from ..module_utils._service.endpoint import EndpointSpec, plan

DOCUMENTATION = r"""
name: endpoint
short_description: Describe an LLM endpoint for services
version_added: 1.0.0
description:
  - Internal to the role P(kaido.ollama.ollama_client#role). Validates its variables and returns the files with
    the description.
  - It is a filter, so that keys are neither in the arguments nor in the result of a task.
author:
  - kaido.ollama contributors (@kaido)
options:
  _input:
    description: The variables without C(ollama_client_), and values from the inventory.
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
  description: The problem, or the files.
  type: dict
  contains:
    problem:
      description: The problem in one line; empty if there is none.
      type: str
      returned: always
    endpoint:
      description: The description; V(null) if the provider is V(none).
      type: dict
      returned: success
    files:
      description: All files by path, in the form of M(kaido.ollama.service_info), including keys.
      type: dict
      returned: success
    needs_gateway_ca:
      description: Whether the certificate of the private authority of the gateway has to be fetched.
      type: bool
      returned: success
    forwards:
      description: Whether the host gets a forwarder.
      type: bool
      returned: success
"""


def endpoint(wanted: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the plan, or the problem: Ansible wraps exceptions of filters in several lines."""
    try:
        return {"problem": "", **plan(EndpointSpec(**wanted))}
    except OllamaError as exc:
        return {"problem": exc.message}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"endpoint": endpoint}
