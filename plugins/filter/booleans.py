# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that read booleans strictly: the filter bool of Ansible takes what it does not know for false."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean as convert


def fault(value: t.Any, variable: str) -> str:
    """Return what is wrong with the value of a boolean variable, in one line; empty if nothing is."""
    try:
        convert(value, strict=True)
    except TypeError:
        return f"{variable}: invalid value {value!r}; expected true or false"
    return ""


def boolean(value: t.Any, variable: str) -> bool:
    """Return the value of a boolean variable.

    :raises AnsibleFilterError: naming the variable, the value and what is expected.
    """
    problem = fault(value, variable)
    if problem:
        raise AnsibleFilterError(problem)
    return bool(convert(value, strict=True))


def boolean_faults(values: t.Mapping[str, t.Any], host: str = "") -> list[str]:
    """Return what is wrong with boolean variables, given by name, one line each.

    :param host: the host to name; empty for the host itself.
    """
    of_host = f" of {host}" if host else ""
    return [problem for name, value in sorted(values.items()) if (problem := fault(value, name + of_host))]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"boolean": boolean, "boolean_faults": boolean_faults}
