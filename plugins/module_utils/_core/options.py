# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The validation of options before that of ansible-core, whose messages have no code and whose own errors no name.

ansible-core ends with an exception for an infinite number in place of a whole one, for a number or a list in place of a
mapping with suboptions, and for a mapping with keys that are not text.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import reprlib
import typing as t

from ansible.module_utils import basic
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import DEFAULT_TYPE_VALIDATORS

from .errors import OllamaError
from .text import message as one_line

Spec = t.Mapping[str, t.Any]

TYPES = {
    "str": "a string",
    "path": "a path",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
}


def check_types(spec: Spec, params: t.Mapping[str, t.Any], prefix: str = "") -> None:
    """Refuse the first option whose value cannot be converted to its type; raises ``value_invalid``."""
    for name, option in spec.items():
        if params.get(name) is not None:
            _check(prefix + name, option, params[name])


def _check(name: str, option: Spec, value: t.Any) -> None:
    kind = option.get("type", "str")
    try:
        converted = DEFAULT_TYPE_VALIDATORS[kind](value)
    except Exception:
        raise _invalid(name, option, value, TYPES[kind]) from None
    if kind == "list":
        item = {**option, "type": option.get("elements", "raw")}
        for index, element in enumerate(converted):
            _check(f"{name}[{index}]", item, element)
    elif kind == "dict" and option.get("options"):
        if not all(isinstance(key, str) for key in converted):
            raise _invalid(name, option, value, "a mapping whose keys are text")
        check_types(option["options"], converted, f"{name}.")


def _invalid(name: str, option: Spec, value: t.Any, expected: str) -> OllamaError:
    is_secret = any(item.get("no_log") for item in (option, *option.get("options", {}).values()))
    shown = "(hidden)" if is_secret else reprlib.repr(value)
    return OllamaError("value_invalid", f"{name}: invalid value {shown}; expected {expected}")


class Module(AnsibleModule):
    """A module whose invalid options end it with one line and a code."""

    def __init__(self, argument_spec: dict[str, t.Any], **options: t.Any) -> None:
        """Validate the options; `options` are the other arguments of `AnsibleModule`."""
        # ansible-core provides this function for modules that read their arguments themselves.
        given: dict[str, t.Any] = basic._load_params() or {}
        try:
            check_types(argument_spec, given)
        except OllamaError as exc:
            # Secrets are still masked.
            names = [name for name in given if not name.startswith("_ansible_")]
            raw = {name: {"type": "raw", "no_log": argument_spec.get(name, {}).get("no_log", False)} for name in names}
            super().__init__(argument_spec=raw, supports_check_mode=True)
            self.fail_json(**exc.to_fail_json())
        super().__init__(argument_spec=argument_spec, **options)

    def fail_json(self, msg: str, **results: t.Any) -> t.NoReturn:
        """End the module; only the validation of ansible-core has no code."""
        if "failure" not in results:
            msg, results = one_line(msg), {**results, "failure": {"code": "value_invalid"}}
        super().fail_json(msg=msg, **results)
