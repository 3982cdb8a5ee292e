# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that returns the fingerprint of a key file, so that a role can refuse any other key."""

from __future__ import annotations

import typing as t

from ..module_utils._gpu.repository_key import fingerprints

DOCUMENTATION = r"""
name: openpgp_fingerprints
short_description: Return the fingerprint of the OpenPGP key in a text
version_added: 1.0.0
description:
  - Returns the fingerprint of the primary key in an armored key file. Requires no GnuPG on the controller or the host.
  - Accepts only a file that every reader of OpenPGP understands in the same way, which is one armored block with one
    key of version 4 and no other text. Returns an empty list for anything else.
author:
  - kaido.ollama contributors (@kaido)
options:
  _input:
    description: The content of the key file.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Accept only this key
  ansible.builtin.assert:
    that: key.content | kaido.ollama.openpgp_fingerprints == ["02182E60104FCDC26EAE1B8597A5D4CB8793F200"]
"""

RETURN = r"""
_value:
  description: The fingerprint, 40 hexadecimal digits in upper case. Empty if the text is not exactly one key.
  type: list
  elements: str
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[[str], list[str]]]:
        """Return them by name."""
        return {"openpgp_fingerprints": lambda text: fingerprints(text.encode("utf-8", "replace"))}
