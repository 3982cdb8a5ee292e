# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the variables of all hosts, once, on the controller, before any host is contacted."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from ..filter.group_hosts import matching
from ..module_utils._core.errors import OllamaError
from ..module_utils._service.fleet import CLIENTS, GATEWAYS, SERVERS, Fleet
from ..plugin_utils.action import CollectionAction
from ..plugin_utils.role_validation import ValidationError, role_options, server_forms, validate
from ..plugin_utils.variables import (
    IGNORED,
    PLAYBOOK_ROLE,
    check_arguments,
    check_names,
    check_tags,
    check_values,
    json_hint,
    misspelled_groups,
    plain,
    specifications,
    unresolved,
)

SPEC: dict[str, t.Any] = {
    "playbook": {"type": "str"},
    "roles": {"type": "list", "elements": "str", "default": []},
    "fleet": {"type": "bool", "default": False},
}
FLEET = "ollama_services__fleet"
PLAYBOOKS = os.path.join(os.path.dirname(__file__), "..", "..", "playbooks")
# Hosts that a message names.
_NAMED = 3
# What Ansible itself sets for each host, beside ansible_*.
_OF_HOST = frozenset(
    ("inventory_hostname", "inventory_hostname_short", "group_names", "inventory_file", "inventory_dir")
)


class ActionModule(CollectionAction):
    """The task kaido.ollama.check_variables."""

    _requires_connection = False

    def perform(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Validate; the result has only the fact of the fleet, if it is requested."""
        args = self.options(SPEC)
        self._check_options(args)
        if os.path.realpath(task_vars.get("playbook_dir") or "") == os.path.realpath(PLAYBOOKS):
            # Plays of others have tags of their own.
            check_tags([*(task_vars.get("ansible_run_tags") or ()), *(task_vars.get("ansible_skip_tags") or ())])
        for text in misspelled_groups(task_vars["groups"], task_vars.get("inventory_dir") or ""):
            Display().warning(text)
        check_arguments(task_vars.get("_raw_params"))
        hosts = self._hosts(task_vars)
        self._check_names(hosts, task_vars)
        if args["playbook"]:
            options = specifications()[PLAYBOOK_ROLE].get(args["playbook"], {})
            values = {name: self.value(name, task_vars[name]) for name in options if name in task_vars}
            check_values(args["playbook"], values)
        fleet = Fleet(task_vars["groups"], task_vars["hostvars"]).record() if args["roles"] or args["fleet"] else {}
        errors: dict[str, list[str]] = {}
        for host in selected(hosts, task_vars):
            for error in self._host_errors(host, args["roles"], fleet, task_vars):
                errors.setdefault(error, []).append(host)
        # The fleet repeats errors of selected hosts, in other words.
        errors = errors or {error: [] for error in fleet.get("errors", [])}
        if errors:
            text = "; ".join(error + _places(names) for error, names in errors.items())
            raise OllamaError(getattr(next(iter(errors)), "code", "value_invalid"), text)
        return {"changed": False, **({"ansible_facts": {FLEET: fleet}} if args["fleet"] else {})}

    def _check_options(self, args: t.Mapping[str, t.Any]) -> None:
        playbooks = sorted(name[:-4] for name in os.listdir(PLAYBOOKS))
        for option, given, known in (
            ("playbook", [args["playbook"]] if args["playbook"] is not None else [], playbooks),
            ("roles", args["roles"], [*specifications(), "update"]),
        ):
            for name in given:
                if name not in known:
                    raise OllamaError(
                        "value_invalid", f"{option}: invalid value {name!r}; expected one of {', '.join(known)}"
                    )

    def _hosts(self, task_vars: t.Mapping[str, t.Any]) -> list[str]:
        groups = task_vars["groups"]
        members = [host for group in (SERVERS, GATEWAYS, CLIENTS) for host in groups.get(group, ())]
        return list(dict.fromkeys([*members, *(task_vars.get("ansible_play_hosts_all") or ())]))

    def _check_names(self, hosts: t.Sequence[str], task_vars: t.Mapping[str, t.Any]) -> None:
        ignored = self.value(IGNORED, task_vars.get(IGNORED)) or []
        if not isinstance(ignored, list):
            raise OllamaError("value_invalid", f"{IGNORED}: invalid value {ignored!r}; expected a list of strings")
        check_names({host: list(task_vars["hostvars"].raw_get(host)) for host in hosts}, ignored)

    def _host_errors(
        self, host: str, roles: t.Sequence[str], fleet: t.Mapping[str, t.Any], task_vars: t.Mapping[str, t.Any]
    ) -> list[str]:
        """Return the errors of one host's variables."""
        known = _variables(host, task_vars)
        options = {name: option for role in {*roles, PLAYBOOK_ROLE} for name, option in role_options(role).items()}
        # Variables may refer to others, of which the defaults are known only within their roles.
        defaults = {name: option["default"] for name, option in options.items() if "default" in option}
        names = sorted(set(options) & set(known))
        values: dict[str, t.Any] = {}
        errors: list[str] = []
        templar = self._templar.copy_with_new_env(available_variables={**defaults, **known})
        for name in names:
            try:
                values[name] = plain(templar.template(known[name]))
            except AnsibleError as exc:
                # The facts of hosts of another play may not be known yet.
                if host in task_vars["ansible_play_hosts_all"]:
                    errors.append(ValidationError(unresolved(name, exc)))
        if errors:
            return errors
        values["__is_client"] = "ollama_client_provider" in known or host in task_vars["groups"].get(CLIENTS, [])
        place = {key: task_vars.get(key) for key in ("groups", "hostvars", "inventory_dir")} | {"name": host}
        found = validate(roles, values, fleet, place) if roles else server_forms(values)
        return [_with_hint(error, options, values) for error in found]


def _with_hint(error: str, options: t.Mapping[str, t.Any], values: t.Mapping[str, t.Any]) -> str:
    name = error.partition(":")[0]
    hint = json_hint(name, options[name].get("type", "str"), values.get(name)) if name in options else ""
    return ValidationError(error + hint, getattr(error, "code", "value_invalid")) if hint else error


def _variables(host: str, task_vars: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the variables of a host, with those of the play for its hosts."""
    hostvars = task_vars["hostvars"]
    known = dict(hostvars.raw_get(host))
    if host == task_vars["inventory_hostname"]:
        return {**known, **task_vars}
    if host in task_vars["ansible_play_hosts_all"]:
        here = hostvars.raw_get(task_vars["inventory_hostname"])
        for name, value in task_vars.items():
            # Variables of the play may refer to others of any name.
            own = name.startswith("ansible_") or name in _OF_HOST
            if not own and (name not in known if name not in here else here[name] is not value):
                known[name] = value
    return known


def selected(hosts: t.Sequence[str], task_vars: t.Mapping[str, t.Any]) -> list[str]:
    """Return the hosts that --limit selects, or all if only Ansible can resolve it."""
    limited = matching(task_vars["groups"], task_vars.get("ansible_limit") or "")
    return [host for host in hosts if limited is None or host in limited]


def _places(hosts: t.Sequence[str]) -> str:
    if not hosts:
        return ""
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    return f" ({'host' if len(hosts) == 1 else 'hosts'} {', '.join(hosts[:_NAMED])}{more})"
