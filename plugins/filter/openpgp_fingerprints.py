# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that tells whose key a key file holds, so that a role can refuse any other."""

from __future__ import annotations

import typing as t

from ..module_utils._gpu_key import fingerprints

DOCUMENTATION = r"""
name: openpgp_fingerprints
short_description: Tell the fingerprints of the OpenPGP keys in a text
version_added: 0.1.0
description:
  - Returns the fingerprints of all primary keys in an armoured key file. Needs no GnuPG on either side.
author:
  - kaido.ollama contributors (@kaido)
options:
  _input:
    description: The content of the key file.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Trust this key and no other
  ansible.builtin.assert:
    that: key.content | kaido.ollama.openpgp_fingerprints == ["02182E60104FCDC26EAE1B8597A5D4CB8793F200"]
"""

RETURN = r"""
_value:
  description: Fingerprints of 40 hexadecimal digits in capitals. Empty where the text holds no key.
  type: list
  elements: str
"""


class FilterModule:
    """What Ansible asks for the filters of this file."""

    def filters(self) -> dict[str, t.Callable[[str], list[str]]]:
        """Return them by name."""
        return {"openpgp_fingerprints": lambda text: fingerprints(text.encode())}
