# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What the attributes of this collection's modules mean; a module that extends these adds only how far it supports each.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Predicts what it would change, and changes nothing.
  diff_mode:
    description: Says what differs, before and after, when in diff mode.
  idempotent:
    description: A second run with the same options changes nothing.
notes:
  - 'Each module can also fail with these values of RV(ignore:failure.code): V(disk_full), V(read_only),
    V(permission_denied) and V(os_error) for what the system refused, V(internal_error) for an error of the module
    itself. The traceback of the latter is shown with C(-vvv).'
"""

    # For modules that only look
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: This module never changes anything.
  diff_mode:
    support: N/A
    details: This module never changes anything.
  idempotent:
    support: full
    details: This module never changes anything.
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Takes common options from C(module_defaults) through C(group/kaido.ollama.ollama).
    support: full
    membership:
      - kaido.ollama.ollama
"""
