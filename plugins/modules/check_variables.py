#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_variables
short_description: Validate the variables of all hosts before a host is contacted
version_added: 1.0.0
description:
  - Fails for each variable of the servers, gateways and clients that begins with C(ollama_) or C(gpu_driver_) and is
    not a variable of this collection, and suggests the most similar variable.
  - List your own variables with such a prefix in C(ollama_ignored_variables).
  - Warns of groups, and of files in C(group_vars), whose names are very similar to C(ollama_servers),
    C(ollama_gateways) or C(ollama_clients).
  - Then fails for each invalid value, with one line that contains the variable, the value and the expected value. The
    types of the variables of the role C(kaido.ollama.ollama) are always validated.
  - Runs on the controller without a connection to any host. One task with C(run_once) checks the whole inventory.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
options:
  playbook:
    description: A playbook of this collection whose variables are also validated, as in the entry point of that name of
      the role C(kaido.ollama.ollama).
    type: str
  roles:
    description: Roles of this collection whose variables are also validated, on all hosts of the inventory that
      C(--limit) selects; V(update) means the variables of the playbook C(kaido.ollama.update).
    type: list
    elements: str
    default: []
  fleet:
    description: Return the fact C(ollama_services__fleet) with the servers, gateways and mirrors of the inventory.
    type: bool
    default: false
notes:
  - 'Values of RV(ignore:failure.code): V(variable_unknown), V(tag_unknown), V(value_invalid), and those of the
    validation in M(kaido.ollama.preflight) and M(kaido.ollama.gpu_info).'
"""

EXAMPLES = r"""
- name: Validate the names of all variables
  kaido.ollama.check_variables:
  run_once: true

- name: Accept variables of other roles with the same prefix
  kaido.ollama.check_variables:
  run_once: true
  vars:
    ollama_ignored_variables: [ollama_backup_directory]

- name: Validate the variables of the playbook kaido.ollama.update, too
  kaido.ollama.check_variables:
    playbook: update
  run_once: true

- name: Validate the variables of two roles, too
  kaido.ollama.check_variables:
    roles: [ollama, ollama_mirror]
  run_once: true

- name: Determine the servers, gateways and mirrors of the inventory
  kaido.ollama.check_variables:
    fleet: true
  run_once: true

- name: Show the gateways
  ansible.builtin.debug:
    var: ollama_services__fleet.gateways
  run_once: true
"""

RETURN = r"""
ansible_facts:
  description: The fact of the fleet.
  returned: success, with O(fleet)
  type: dict
  sample:
    ollama_services__fleet:
      servers:
        - big1
        - big2
      gateways:
        - hecate
      gateway:
        name: hecate
        url: https://hecate.lan:11443
        private_ca: true
      private_ca:
        - hecate
      pools:
        hecate:
          - big1
          - big2
      mirrors:
        big1: http://big1:11480
      errors: []
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
    code: variable_unknown
"""
