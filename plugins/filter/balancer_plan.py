# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that assigns models to the servers of a gateway, from the inventory alone."""

from __future__ import annotations

import re
import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils._core.address import parse_url
from ..module_utils._core.errors import OllamaError
from ..module_utils._core.name import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, Name, parse
from ..module_utils._service.fleet import Fleet

DOCUMENTATION = r"""
name: balancer_plan
short_description: Assign models to the servers of a gateway
version_added: 1.0.0
description:
  - Internal to the role P(kaido.ollama.ollama_gateway#role). Reads the variables of the other hosts from the inventory;
    no host is contacted.
author:
  - kaido.ollama contributors (@kaido)
positional: hostvars, me
options:
  _input:
    description: The servers, as names of the inventory.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable of this name.
    type: dict
    required: true
  me:
    description: The name of the host of the gateway.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the servers of this gateway
  ansible.builtin.debug:
    msg: "{{ ['hecate', 'big2'] | kaido.ollama.balancer_plan(hostvars, inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description:
    - RV(ignore:servers) contains for each server its name, whether it is the local server of the gateway, the number of
      requests it gets at a time, and for other servers the address and the name on the certificate of their gateway.
    - RV(ignore:groups) contains the sets of servers that have the same models; RV(ignore:backups) are used while no
      other server answers. The group C(rest) is for requests without a model.
    - RV(ignore:spellings) contains the group of each spelling of each declared model, in lower case.
  type: dict
"""

# What HAProxy takes as the name of a server.
_NAME = re.compile(r"[A-Za-z0-9_.:-]+\Z")

Variables = t.Mapping[str, t.Any]


def plan(pool: t.Sequence[str], hostvars: t.Mapping[str, Variables], me: str) -> dict[str, t.Any]:
    """Return servers, groups and spellings. Pure, and the same for the same inventory."""
    # Sets of Ansible have another order in each run.
    pool = sorted(set(pool))
    servers = [_server(name, hostvars, me) for name in pool]
    declared = {name: _declared(name, hostvars[name].get("ollama_models") or []) for name in pool}

    shown = {model.key: str(model).lower() for models in declared.values() for model in models}
    keys = {name: {model.key for model in declared[name]} for name in pool}
    having = {key: tuple(name for name in pool if key in keys[name]) for key in shown}
    sets = sorted(set(having.values()), key=lambda names: [pool.index(name) for name in names])
    numbers = {names: f"models-{number}" for number, names in enumerate(sets, 1)}
    groups = [
        {
            "name": numbers[names],
            "servers": [*names],
            "backups": [],
            "models": sorted(shown[key] for key, holders in having.items() if holders == names),
        }
        for names in sets
    ]
    # One answer of a list should not differ from the next: those with most models, and the others only in need.
    ranked = sorted(pool, key=lambda name: (-len(declared[name]), pool.index(name)))
    first = [name for name in pool if keys[name] == keys[ranked[0]]]
    backups = [name for name in ranked if name not in first]
    groups.append({"name": "rest", "servers": first, "backups": backups, "models": []})
    return {
        "servers": servers,
        "groups": groups,
        "spellings": {
            spelling: numbers[having[model.key]]
            for models in declared.values()
            for model in models
            for spelling in spellings(model)
        },
    }


def spellings(model: Name) -> list[str]:
    """Return all spellings of a name, in lower case."""
    paths = [f"{model.host}/{model.namespace}/{model.model}"]
    if model.host == DEFAULT_HOST:
        paths += [f"ollama.com/{model.namespace}/{model.model}", f"{model.namespace}/{model.model}"]
        if model.namespace == DEFAULT_NAMESPACE:
            paths.append(model.model)
    tags = ["", f":{model.tag}"] if model.tag.lower() == DEFAULT_TAG else [f":{model.tag}"]
    return [f"{path}{tag}".lower() for path in paths for tag in tags]


def _declared(host: str, rows: t.Any) -> list[Name]:
    """Return the models, with their aliases, that role ollama will have on a host."""
    if not isinstance(rows, list):
        raise OllamaError("value_invalid", f"ollama_models of {host}: invalid value {rows!r:.80}; expected a list")
    found: dict[str, Name] = {}
    for row in rows:
        entry: Variables = {"name": row} if isinstance(row, str) else row
        if not isinstance(entry, t.Mapping):
            raise OllamaError(
                "model_invalid", f"ollama_models of {host}: invalid value {row!r}; expected a name or a mapping"
            )
        if entry.get("state", "present") == "absent":
            continue
        aliases = entry.get("aliases") or []
        if not isinstance(aliases, list):
            raise OllamaError(
                "value_invalid", f"ollama_models of {host}: invalid aliases {aliases!r:.80}; expected a list"
            )
        for text in [entry.get("name"), *aliases]:
            name = parse(text, allow_cloud=True, what=f"ollama_models of {host}")
            found[name.key] = name
    return [*found.values()]


def _server(name: str, hostvars: t.Mapping[str, Variables], me: str) -> dict[str, t.Any]:
    if name not in hostvars:
        raise _wrong(f"invalid value {name!r}; expected hosts of the inventory")
    if not _NAME.match(name):
        raise _wrong(f"invalid value {name!r}; expected letters, digits and _ . : -, which HAProxy allows in names")
    variables = hostvars[name]
    parallel = _parallel(name, variables.get("ollama_settings") or {})
    server: dict[str, t.Any] = {"name": name, "own": name == me, "parallel": parallel}
    if server["own"]:
        return server
    inventory = Fleet({}, hostvars)
    if not inventory.is_enabled(name, "ollama_gateway_enabled"):
        raise _wrong(f"invalid value {name!r}; expected hosts with ollama_gateway_enabled: true")
    address = parse_url(inventory.gateway_url(name))[1]
    # HAProxy compares names only, and a certificate of the private authority has the inventory's.
    return {**server, "address": str(address), "certificate": address.host if address.ip is None else name}


def _parallel(name: str, settings: t.Any) -> int:
    """Return how many requests a server processes at a time; 0 and an empty value are the default of Ollama."""
    value = settings.get("num_parallel") if isinstance(settings, t.Mapping) else settings
    try:
        return int(value or 1)
    except (OverflowError, TypeError, ValueError):
        raise _wrong(
            f"ollama_settings.num_parallel of {name}: invalid value {value!r:.80}; expected a number"
        ) from None


def _wrong(why: str) -> OllamaError:
    return OllamaError("value_invalid", f"ollama_gateway_servers: {why}")


def _filter(pool: t.Sequence[str], hostvars: t.Mapping[str, Variables], me: str) -> dict[str, t.Any]:
    try:
        return plan(pool, hostvars, me)
    except OllamaError as error:
        raise AnsibleFilterError(error.message) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"balancer_plan": _filter}
