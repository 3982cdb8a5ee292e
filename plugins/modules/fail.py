#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fail
short_description: Fail with a message and a code
version_added: 1.0.0
description:
  - Internal to the roles and playbooks of this collection. Fails in the same way as the modules of this collection,
    with C(failure.code) for programs and a message that is printed once.
  - Runs on the controller without a connection to any host.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
options:
  msg:
    description: The message, in one line.
    type: str
    required: true
  code:
    description: The code of the failure.
    type: str
    default: task_failed
  cause:
    description: The result of the task that failed, for example C(ansible_failed_result). Its code replaces O(code).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Fail with a message
  kaido.ollama.fail:
    msg: the server does not answer

- name: Fail with a code for programs
  kaido.ollama.fail:
    msg: the server does not answer
    code: server_unreachable

- name: Fail with the code of the task that failed
  kaido.ollama.fail:
    msg: "the update failed: {{ ansible_failed_result.msg }}"
    cause: "{{ ansible_failed_result }}"

- name: Fail if a value is missing
  kaido.ollama.fail:
    msg: "ollama_bundle: not set; expected a path"
    code: value_invalid
  when: ollama_bundle is not defined
"""

RETURN = r"""
failure:
  description: The failure in machine-readable form.
  returned: failure
  type: dict
  contains:
    code:
      description: O(code), or the code of O(cause).
      returned: always
      type: str
  sample:
    code: task_failed
"""
