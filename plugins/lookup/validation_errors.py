# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the variables of roles of this collection."""

from __future__ import annotations

DOCUMENTATION = r"""
name: validation_errors
short_description: Validate the variables of roles of this collection
version_added: 0.1.0
description:
  - Internal to the roles of this collection. Compares the variables that are set with the argument specs of roles and
    with additional rules. No host is contacted.
author:
  - kaido.ollama contributors (@kaido)
options:
  _terms:
    description: The names of the roles; V(update) means the variables of the playbook C(kaido.ollama.update).
    type: list
    elements: str
    required: true
  fleet:
    description: The result of P(kaido.ollama.fleet#filter).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Validate variables
  ansible.builtin.assert:
    that: errors | length == 0
    fail_msg: "{{ errors | join('; ') }}"
  vars:
    errors: "{{ lookup('kaido.ollama.validation_errors', 'ollama_mirror', fleet=fleet) }}"
    fleet: "{{ groups | kaido.ollama.fleet(hostvars) }}"
"""

RETURN = r"""
_list:
  description: The errors, one line each; empty if all variables are valid.
  type: list
  elements: list
"""

import typing as t
from pathlib import Path

import yaml
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.lookup import LookupBase

from ..filter import balancer_plan, token_errors
from ..module_utils._core.errors import OllamaError
from ..module_utils._server.settings import parse_host
from ..module_utils._service import endpoint, validation
from ..module_utils._service.fleet import member

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ROLES = Path(__file__).resolve().parents[2] / "roles"
# The other roles have validators of their own. What no module sees as it was written is validated here for all of them.
COMMON_TYPES = ("bool", "list", "dict", "int")

Variables = t.Mapping[str, t.Any]


def validate(roles: t.Sequence[str], values: Variables, fleet: Variables, host: Variables) -> list[str]:
    """Return the errors of the variables that are set. Pure, except for reading the argument specs.

    :param values: the variables by name, with their values.
    :param host: ``name``, and ``groups`` and ``hostvars`` of Ansible.
    """
    found: list[str] = []
    for role in roles:
        options = _options(role)
        if role in OWN:
            errors = validation.errors(options, _for(role, values))
            found += errors or (RULES[role](_with_defaults(options, values), fleet, host) if role in RULES else [])
        else:
            found += validation.spec_errors(options, values, COMMON_TYPES)
    return found


def _options(role: str) -> Variables:
    if role == "update":
        return validation.PLAYBOOK_OPTIONS
    specs = yaml.load((ROLES / role / "meta" / "argument_specs.yml").read_text(), Loader=_Loader)
    options: Variables = specs["argument_specs"]["main"].get("options", {})
    return options


def _for(role: str, values: Variables) -> Variables:
    """Return the values; a single number of hosts at a time stands for a list of one."""
    serial = values.get("ollama_update_serial")
    if role != "update" or serial is None or isinstance(serial, (list, dict)):
        return values
    return {**values, "ollama_update_serial": [serial]}


def _with_defaults(options: Variables, values: Variables) -> dict[str, t.Any]:
    return {**{name: option.get("default") for name, option in options.items()}, **values}


# --- rules that concern several variables


def _gateway(values: Variables, fleet: Variables, host: Variables) -> list[str]:
    found = []
    inventory = set(host["groups"].get("all") or host["hostvars"])
    authority, servers = values["ollama_gateway_authority_host"], values["ollama_gateway_servers"]
    if authority and authority not in inventory:
        found.append(validation.error("ollama_gateway_authority_host", authority, "a host of the inventory"))
    found += [
        validation.error("ollama_gateway_servers", name, "hosts of the inventory")
        for name in servers
        if name not in inventory
    ]
    enabled = boolean(values["ollama_gateway_enabled"])
    if values["ollama_gateway_tokens"] or enabled:
        found += token_errors.token_errors(values["ollama_gateway_tokens"])
    if int(values["ollama_gateway_port"]) == int(values["ollama_gateway_stats_port"]):
        found.append("ollama_gateway_stats_port: the same as ollama_gateway_port; expected another port")
    if found or not enabled:
        return found
    own = member(fleet, host["name"], servers)
    if own["balances"]:
        try:
            balancer_plan.plan(own["pool"], host["hostvars"], host["name"])
        except OllamaError as exc:
            found.append(exc.message)
    return found


def _client(values: Variables, fleet: Variables, host: Variables) -> list[str]:
    keys = values["ollama_client_keys"]
    unknown = [name for name in keys if name not in endpoint.PROVIDERS]
    if unknown:
        return [
            f"ollama_client_keys.{name}: unknown provider; expected {', '.join(endpoint.PROVIDERS)}" for name in unknown
        ]
    if not values.get("__is_client"):
        return []
    gateway = fleet["gateway"]
    settings = values.get("ollama_settings") or {}
    try:
        local = parse_host((settings.get("host") if isinstance(settings, dict) else None) or "127.0.0.1").local
        endpoint.plan(
            endpoint.EndpointSpec(
                provider=values["ollama_client_provider"],
                fallback=values["ollama_client_fallback"],
                providers=values["ollama_client_providers"],
                keys=keys,
                group=values["ollama_client_group"],
                local_url=local.url(),
                gateway_url=gateway.get("url", ""),
                gateway_has_ca=gateway.get("private_ca", False),
            )
        )
    except OllamaError as exc:
        return [exc.message]
    except ValueError as exc:
        return [validation.error("ollama_settings.host", settings.get("host"), str(exc).replace("expected ", "", 1))]
    return []


OWN = ("ollama_mirror", "ollama_gateway", "ollama_client", "update")
RULES: dict[str, t.Callable[[Variables, Variables, Variables], list[str]]] = {
    "ollama_gateway": _gateway,
    "ollama_client": _client,
}


class LookupModule(LookupBase):
    """The lookup kaido.ollama.validation_errors."""

    def run(self, terms: list[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any) -> list[list[str]]:
        """Return one list with the errors of all roles."""
        known, templar = variables or {}, t.cast(t.Any, self)._templar
        options = {name: option for role in terms for name, option in _options(role).items()}
        # Variables may refer to others, of which the defaults are known only within their roles.
        defaults = {name: option["default"] for name, option in options.items() if "default" in option}
        values: dict[str, t.Any] = {}
        errors = []
        with templar.set_temporary_context(available_variables={**defaults, **known}):
            for name in sorted({*options, "ollama_settings"} & set(known)):
                try:
                    values[name] = _plain(templar.template(known[name]))
                except Exception as exc:  # a template fails with many kinds of errors
                    errors.append(f"{name}: {str(exc).splitlines()[0]}")
        name = known["inventory_hostname"]
        values["__is_client"] = "ollama_client_provider" in known or name in known["groups"].get("ollama_clients", [])
        host = {"name": name, "groups": known["groups"], "hostvars": known["hostvars"]}
        return [errors or validate(terms, values, kwargs["fleet"], host)]


def _plain(value: t.Any) -> t.Any:
    """Return a value with texts in place of what Ansible keeps encrypted until it is used."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if hasattr(value, "__ENCRYPTED__") else value
