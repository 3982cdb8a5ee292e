# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Attributes of the modules of this collection; a module that extends them adds its level of support.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the changed status without changing the host.
  diff_mode:
    description: Returns the differences between before and after in diff mode.
  idempotent:
    description: A second run with the same options changes nothing.
notes:
  - 'Each module can also fail with these values of RV(ignore:failure.code): V(disk_full), V(filesystem_read_only),
    V(permission_denied) and V(os_error) for operations that the system refused, V(internal_error) for an error of the
    module. The traceback of the latter is shown with C(-vvv).'
"""

    # For information modules
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
