# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter for lines of logs that a message shows."""

from __future__ import annotations

import typing as t

from ..module_utils._core.text import message

DOCUMENTATION = r"""
name: printable
short_description: Make a log line safe to print
version_added: 1.0.0
description:
  - Internal to the roles of this collection. Returns the text as one line without credentials in URLs, in which
    terminal control characters are replaced by visible escapes.
author:
  - kaido.ollama contributors (@kaido)
options:
  _input:
    description: A line of a log.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the last lines of the journal
  ansible.builtin.debug:
    msg: "{{ journal.stdout_lines | map('kaido.ollama.printable') }}"
"""

RETURN = r"""
_value:
  description: The printable line.
  type: str
"""


def printable(line: t.Any) -> str:
    """Return a text as one printable line."""
    return message(str(line))


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by name."""
        return {"printable": printable}
