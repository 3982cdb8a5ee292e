# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the names of all variables and the values of a playbook's variables, once, on the controller."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ..module_utils._core.errors import OllamaError, as_failure
from ..module_utils._core.text import message
from ..module_utils._service.fleet import Fleet
from ..plugin_utils.variables import IGNORED, PLAYBOOK_ROLE, check_names, check_values, specifications

SPEC: dict[str, t.Any] = {"playbook": {"type": "str"}, "fleet": {"type": "bool", "default": False}}
FLEET = "ollama_services__fleet"
_GROUPS = ("ollama_servers", "ollama_gateways", "ollama_clients")


class ActionModule(ActionBase):
    """The task kaido.ollama.check_variables."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Validate; the result has only the failure, or the fact of the fleet."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(argument_spec=SPEC)
        variables = task_vars or {}
        try:
            self._check(args["playbook"], variables)
            if args["fleet"]:
                result["ansible_facts"] = {FLEET: Fleet(variables["groups"], variables["hostvars"]).record()}
        except Exception as exc:
            return {**result, "failed": True, "changed": False, **as_failure(exc).to_fail_json()}
        return {**result, "changed": False}

    def _check(self, playbook: str | None, variables: t.Mapping[str, t.Any]) -> None:
        entries = specifications()[PLAYBOOK_ROLE]
        if playbook is not None and playbook not in entries:
            names = ", ".join(sorted(set(entries) - {"main"}))
            raise OllamaError("value_invalid", f"playbook: invalid value {playbook!r}; expected one of {names}")
        ignored = self._value(IGNORED, variables.get(IGNORED)) or []
        if not isinstance(ignored, list):
            raise OllamaError("value_invalid", f"{IGNORED}: invalid value {ignored!r}; expected a list of texts")
        hosts = {host for group in _GROUPS for host in variables["groups"].get(group, ())}
        hosts.update(variables.get("ansible_play_hosts_all") or ())
        check_names({host: list(variables["hostvars"][host]) for host in hosts}, ignored)
        if playbook:
            values = {name: self._value(name, variables[name]) for name in entries[playbook] if name in variables}
            check_values(playbook, values)

    def _value(self, name: str, raw: t.Any) -> t.Any:
        try:
            return self._templar.template(raw)
        except AnsibleError as exc:
            reason = message(str(getattr(exc, "message", exc)))
            raise OllamaError("value_invalid", f"{name}: the template cannot be resolved: {reason}") from None
