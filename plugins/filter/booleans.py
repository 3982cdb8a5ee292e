# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filter that reads booleans strictly: the filter bool of Ansible treats unknown values as false."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean as convert


def boolean(value: t.Any, variable: str) -> bool:
    """Return the value of a boolean variable.

    :raises AnsibleFilterError: naming the variable, the value and what is expected.
    """
    try:
        return bool(convert(value, strict=True))
    except TypeError:
        raise AnsibleFilterError(f"{variable}: invalid value {value!r}; expected true or false") from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"boolean": boolean}
