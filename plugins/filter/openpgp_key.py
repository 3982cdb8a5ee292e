# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that rewrites a key file from the bytes whose fingerprint was compared."""

from __future__ import annotations

import typing as t

from ..module_utils._gpu.repository_key import canonical

DOCUMENTATION = r"""
name: openpgp_key
short_description: Normalize an OpenPGP key file
version_added: 1.0.0
description:
  - Returns the key that P(kaido.ollama.openpgp_fingerprints#filter) reads as a single armored block without headers or
    other text, so that exactly the verified key is installed.
author:
  - kaido.ollama contributors (@kaido)
options:
  _input:
    description: The content of the key file.
    type: str
    required: true
seealso:
  - plugin: kaido.ollama.openpgp_fingerprints
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Install the key of a repository
  ansible.builtin.copy:
    content: "{{ key.content | kaido.ollama.openpgp_key }}"
    dest: /etc/apt/keyrings/example.asc
    owner: root
    group: root
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The armored key. Empty if the text is not exactly one key.
  type: str
"""


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[[str], str]]:
        """Return them by name."""
        return {"openpgp_key": lambda text: canonical(text.encode("utf-8", "replace"))}
