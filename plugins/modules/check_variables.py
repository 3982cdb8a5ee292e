#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_variables
short_description: Find misspelt variables of this collection before a host is contacted
version_added: 0.1.0
description:
  - Fails for each variable of the servers, gateways and clients that begins with C(ollama_) or C(gpu_driver_) and that
    no role of this collection has, and suggests the most similar variable.
  - List your own variables with such a prefix in C(ollama_ignored_variables).
  - Runs on the controller without a connection to any host. One task with C(run_once) checks the complete inventory.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
options:
  playbook:
    description: A playbook of this collection whose variables are validated too, as in the entry point of that name of
      the role C(kaido.ollama.ollama).
    type: str
  fleet:
    description: Return the fact C(ollama_services__fleet) with the servers, gateways and mirrors of the inventory.
    type: bool
    default: false
notes:
  - 'Values of RV(ignore:failure.code): V(variable_unknown), V(value_invalid).'
"""

EXAMPLES = r"""
- name: Validate variables
  kaido.ollama.check_variables:
  run_once: true
"""

RETURN = r"""
ansible_facts:
  description: The fact of the fleet.
  returned: success, with O(fleet)
  type: dict
failure:
  description: The failure for programs.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
    message:
      description: The same sentence as in RV(ignore:msg).
      returned: always
      type: str
"""
