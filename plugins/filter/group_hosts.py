# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a play, so that a playbook without hosts fails instead of doing nothing."""

from __future__ import annotations

import fnmatch
import re
import typing as t

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: group_hosts
short_description: Return the hosts of a group, or fail if a play would have none
version_added: 1.0.0
description:
  - Ansible skips a play whose group does not exist or has no hosts, and ends successfully. With this filter as its
    C(hosts), the playbook fails with one line.
author:
  - kaido.ollama contributors (@kaido)
options:
  _input:
    description: The variable C(groups).
    type: dict
    required: true
  names:
    description: The names of groups, of which at least one must exist and have hosts; or one host or pattern.
    type: raw
    required: true
  limit:
    description: The variable C(ansible_limit). At least one host must match it.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Verify models
  hosts: "{{ groups | kaido.ollama.group_hosts('ollama_servers', ansible_limit | default('')) }}"
  tasks: []
"""

RETURN = r"""
_value:
  description: The names of the hosts.
  type: list
  elements: str
"""


def group_hosts(groups: t.Mapping[str, t.Sequence[str]], names: str | t.Sequence[str], limit: str = "") -> list[str]:
    """Return the hosts of some groups in the order of the inventory."""
    wanted = [names] if isinstance(names, str) else list(names)
    text = " or ".join(wanted)
    if len(wanted) == 1 and wanted[0] not in groups:
        # The name of a host, or a pattern.
        found = matching(groups, wanted[0])
        if found is None or found:
            return wanted if found is None else sorted(found)
    if not any(name in groups for name in wanted):
        known = ", ".join(sorted(set(groups) - {"all", "ungrouped"})) or "none"
        raise AnsibleFilterError(
            f"{text}: no such group or host in the inventory; expected a group with hosts (groups: {known})"
        )
    hosts = list(dict.fromkeys(host for name in wanted for host in groups.get(name, ())))
    if not hosts:
        raise AnsibleFilterError(f"{text}: the group has no hosts; expected at least one host")
    selected = matching(groups, limit)
    if selected is not None and not selected & set(hosts):
        raise AnsibleFilterError(
            f"--limit {limit}: matches no host of group {text}; expected at least one of its hosts"
        )
    return hosts


def matching(groups: t.Mapping[str, t.Sequence[str]], limit: str) -> set[str] | None:
    """Return the hosts that a limit selects; None for patterns that only Ansible can resolve."""
    terms = [term.strip() for term in re.split(r"[,:](?![^\[]*\])", limit) if term.strip()]
    if not terms or any(term.lstrip("!&")[:1] in ("@", "~") or "[" in term for term in terms):
        return None
    everything = {host for hosts in groups.values() for host in hosts}

    def resolve(pattern: str) -> set[str]:
        names = [name for name in groups if fnmatch.fnmatchcase(name, pattern)]
        found = {host for name in names for host in groups[name]}
        return found | {host for host in everything if fnmatch.fnmatchcase(host, pattern)}

    plain = [term for term in terms if term[0] not in "!&"]
    selected = set().union(*map(resolve, plain)) if plain else everything
    for term in terms:
        if term[0] == "&":
            selected &= resolve(term[1:])
    for term in terms:
        if term[0] == "!":
            selected -= resolve(term[1:])
    return selected


class FilterModule:
    """The filter, for Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filter by name."""
        return {"group_hosts": group_hosts}
