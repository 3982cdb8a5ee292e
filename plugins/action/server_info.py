# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module whose failure is printed once; meta/runtime.yml selects this plugin for modules without their own."""

from __future__ import annotations

import typing as t

from ..plugin_utils.action import CollectionAction


class ActionModule(CollectionAction):
    """The module of the task."""

    _supports_async = True

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run the module as ansible-core does without an action plugin."""
        return self.module_of_task(task_vars)
