# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of kaido.ollama.gateway_certificate, which makes no call if an earlier task has found no change."""

from __future__ import annotations

import typing as t

from ..plugin_utils.action import CollectionAction


class ActionModule(CollectionAction):
    """The module of the task."""

    _supports_async = True

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the result of the earlier task, or of the module."""
        return self.earlier("certificate", task_vars) or self.module_of_task(task_vars)
