# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the variables of role ollama on the controller, then run the module preflight on the host.

Invalid variables of a host are reported before it is contacted, and its Python is reported in one line if it cannot run
modules of this collection.
"""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError

from ..lookup.models_lock import resolve
from ..module_utils._core.errors import OllamaError
from ..module_utils._core.options import check_types
from ..module_utils._preflight import host_request
from ..module_utils._preflight.variables import RULES, check_checksum_version, check_variables, invalid_variable
from ..plugin_utils.action import CollectionAction

MODULE = "kaido.ollama.preflight"


class ActionModule(CollectionAction):
    """The module of the same name, after the validation of the role's variables."""

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Validate, then run the module."""
        arguments = dict(self._task.args)
        # The module names a required option that is missing.
        if {"version", "unit"} <= arguments.keys():
            self._validate(arguments, task_vars)
        return self.module(MODULE, arguments, task_vars)

    def _validate(self, arguments: dict[str, t.Any], task_vars: t.Mapping[str, t.Any]) -> None:
        values = {name: self.value(name, task_vars[name]) for name in RULES if name in task_vars}
        check_variables(values)
        self._check_archives(values.get("ollama_release_archives") or [])
        known = arguments.pop("known_checksums", None) or {}
        check_checksum_version(str(arguments.get("checksum") or ""), str(arguments["version"]), known)
        check_types(host_request.OPTIONS, arguments)
        arguments["lock"] = self._lock(arguments, task_vars)
        host_request.validate(host_request.from_options(arguments))

    def _lock(self, arguments: t.Mapping[str, t.Any], task_vars: t.Mapping[str, t.Any]) -> dict[str, str]:
        try:
            return resolve(arguments.get("lock") or "", arguments.get("models") or [], task_vars.get("inventory_dir"))
        except OllamaError as exc:
            raise OllamaError(exc.code, f"ollama_models_lock: {exc.message}", **exc.details) from None

    def _check_archives(self, archives: t.Sequence[str]) -> None:
        for path in archives:
            try:
                self._find_needle("files", path)
            except AnsibleError:
                raise invalid_variable(
                    "ollama_release_archives", path, "the path of a file on the controller"
                ) from None
