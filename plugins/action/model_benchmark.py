# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module of the same name, keep its result on the controller, and compare it with the previous one."""

from __future__ import annotations

import os
import typing as t

from ansible.plugins.action import ActionBase

from ..module_utils._benchmark import history
from ..module_utils._core.errors import as_failure

MODULE = "kaido.ollama.model_benchmark"


class ActionModule(ActionBase):
    """The module with its results on the controller."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module; write and compare what it measured."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        done = self._execute_module(MODULE, dict(arguments), task_vars=task_vars)
        result.update(done)
        folder = arguments.get("results_dir")
        if not folder or result.get("failed") or not result.get("measured"):
            return result
        host = str((task_vars or {}).get("inventory_hostname", ""))
        try:
            threshold = float(arguments.get("threshold", 20))
            result.update(history.keep(os.path.expanduser(str(folder)), host, result["benchmark"], threshold))
        except Exception as exc:
            result.update(as_failure(exc).to_fail_json(), failed=True)
        return result
