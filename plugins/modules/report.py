#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Print a table of what the role ollama found on each host
version_added: 0.1.0
description:
  - Prints one table for all hosts of the play that the roles of this collection have converged, from the facts
    C(ollama_report) and C(ollama_listening). C(LISTENS ON) has every port that this collection opens, as the host
    showed it. C(SOURCE) says where a model came from in this run, C(-) that it was there.
  - Runs on the controller and takes no connection to any host. Use it once, with C(run_once).
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
  - kaido.ollama._attributes.info_module
"""

EXAMPLES = r"""
- name: Show what was found
  kaido.ollama.report:
  run_once: true
"""

RETURN = r"""
lines:
  description: The table.
  returned: success
  type: list
  elements: str
"""
