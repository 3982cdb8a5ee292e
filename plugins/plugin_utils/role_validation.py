# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the variables of roles against their argument specifications and additional rules. No host is contacted.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

from ..filter import balancer_plan, token_errors
from ..lookup.models_lock import resolve
from ..module_utils._core.errors import OllamaError
from ..module_utils._gpu import driver_request
from ..module_utils._preflight import host_request
from ..module_utils._preflight.variables import check_variables
from ..module_utils._server.settings import parse_host
from ..module_utils._service import endpoint, validation
from ..module_utils._service.fleet import CLIENTS, GATEWAYS, SERVERS, member
from .variables import specifications

Variables = t.Mapping[str, t.Any]
# The options of the module preflight by variable of the role ollama that is part of a request.
_REQUEST = {
    **{name: f"ollama_{name}" for name in ("version", "settings", "environment", "models", "mirrors", "user", "group")},
    **{name: f"ollama_{name}" for name in ("models_dir", "models_mount_required", "install_dir")},
    **{name: f"ollama_{name}" for name in ("allow_vulnerable_version", "allow_open_network", "accept_store_migration")},
    "limits": "ollama_unit_limits",
    "keep": "ollama_release_keep",
}


class ValidationError(str):
    """The line of an error with its code."""

    __slots__ = ("code",)

    def __new__(cls, text: str, code: str = "value_invalid") -> ValidationError:
        """Create the line of an error."""
        error = super().__new__(cls, text)
        error.code = code
        return error

    code: str


def validate(roles: t.Sequence[str], values: Variables, fleet: Variables, host: Variables) -> list[str]:
    """Return the errors of the variables that are set. Pure, except that files of the controller are read.

    :param values: the values of the variables by name.
    :param host: ``name``, ``inventory_dir``, and ``groups`` and ``hostvars`` of Ansible.
    """
    found: list[str] = []
    for role in roles:
        options = role_options(role)
        if role == "ollama":
            found += _server(_with_defaults(options, values), host)
            continue
        errors = validation.errors(options, _for(role, values))
        found += errors or (RULES[role](_with_defaults(options, values), fleet, host) if role in RULES else [])
    return found


def role_options(role: str) -> Variables:
    """Return the argument specification of a role, or for ``update`` of that playbook."""
    return validation.PLAYBOOK_OPTIONS if role == "update" else specifications()[role]["main"]


def _for(role: str, values: Variables) -> Variables:
    """Return the values; a single batch size is converted to a list."""
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


def server_forms(values: Variables) -> list[str]:
    """Return the error of the first variable of the role ollama with an invalid type or form."""
    try:
        check_variables(values)
    except OllamaError as exc:
        return [ValidationError(exc.message, exc.code)]
    return []


def _server(values: Variables, host: Variables) -> list[str]:
    errors = server_forms(values)
    if errors or not _is_server(host):
        return errors
    try:
        lock = resolve(values["ollama_models_lock"], values["ollama_models"], host.get("inventory_dir"))
    except OllamaError as exc:
        prefix = "ollama_models_lock: " if exc.code == "lockfile_invalid" else ""
        return [ValidationError(prefix + exc.message, exc.code)]
    try:
        options = {option: values[variable] for option, variable in _REQUEST.items()}
        host_request.validate(host_request.from_options({**options, "lock": lock, "unit": ""}))
    except OllamaError as exc:
        return [ValidationError(exc.message, exc.code)]
    return []


def _is_server(host: Variables) -> bool:
    """Return whether a host is a server, which is also true if it is in none of the groups."""
    of = [name for name in (SERVERS, GATEWAYS, CLIENTS) if host["name"] in host["groups"].get(name, ())]
    return not of or SERVERS in of


def _driver(values: Variables, _fleet: Variables, _host: Variables) -> list[str]:
    texts = ("vendor", "source", "branch", "modules", "kernel", "amdgpu_dkms", "key_fingerprint")
    lists = ("cards", "sleep_services")
    given: dict[str, t.Any] = {name: str(values[f"gpu_driver_{name}"]) for name in texts}
    given.update({name: tuple(map(str, values[f"gpu_driver_{name}"])) for name in lists})
    try:
        driver_request.validate(driver_request.Request(**given))
    except OllamaError as exc:
        return [ValidationError(exc.message, exc.code)]
    return []


RULES: dict[str, t.Callable[[Variables, Variables, Variables], list[str]]] = {
    "gpu_driver": _driver,
    "ollama_gateway": _gateway,
    "ollama_client": _client,
}
