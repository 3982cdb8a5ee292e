# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the variables of roles of this collection."""

from __future__ import annotations

DOCUMENTATION = r"""
name: validation_errors
short_description: Validate the variables of roles of this collection
version_added: 1.0.0
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

from ansible.plugins.lookup import LookupBase

from ..plugin_utils.role_validation import role_options, validate
from ..plugin_utils.variables import plain, unresolved


class LookupModule(LookupBase):
    """The lookup kaido.ollama.validation_errors."""

    def run(self, terms: list[str], variables: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any) -> list[list[str]]:
        """Return one list with the errors of all roles."""
        known, templar = variables or {}, t.cast(t.Any, self)._templar
        options = {name: option for role in terms for name, option in role_options(role).items()}
        # Variables may refer to others, of which the defaults are known only within their roles.
        defaults = {name: option["default"] for name, option in options.items() if "default" in option}
        values: dict[str, t.Any] = {}
        errors = []
        templar = templar.copy_with_new_env(available_variables={**defaults, **known})
        for name in sorted({*options, "ollama_settings"} & set(known)):
            try:
                values[name] = plain(templar.template(known[name]))
            except Exception as exc:  # a template fails with many kinds of errors
                errors.append(unresolved(name, exc))
        name = known["inventory_hostname"]
        values["__is_client"] = "ollama_client_provider" in known or name in known["groups"].get("ollama_clients", [])
        host = {key: known.get(key) for key in ("groups", "hostvars", "inventory_dir")} | {"name": name}
        return [errors or validate(terms, values, kwargs["fleet"], host)]
