# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of the same name, keep its result on the controller, and compare it with the previous one."""

from __future__ import annotations

import os
import typing as t

from ..module_utils._benchmark import history
from ..module_utils._core.errors import as_failure
from ..plugin_utils.action import CollectionAction

MODULE = "kaido.ollama.model_benchmark"


class ActionModule(CollectionAction):
    """The module with its results on the controller."""

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run the module; write and compare what it measured."""
        arguments = self._task.args
        result = self.module(MODULE, dict(arguments), task_vars)
        folder = arguments.get("results_dir")
        if not folder or result.get("failed") or not result.get("measured"):
            return result
        host = str(task_vars.get("inventory_hostname", ""))
        try:
            threshold = float(arguments.get("threshold", 20))
            kept = history.keep(os.path.expanduser(str(folder)), host, result["benchmark"], threshold)
        except Exception as exc:
            # What was measured is not lost.
            return {**result, "failed": True, **as_failure(exc).to_fail_json()}
        return {**result, **kept}
