# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The validation of options before that of ansible-core, whose messages have no code.

ansible-core ends with an exception that names no option for an infinite number in place of a whole one, for a number or
a list in place of a mapping with suboptions, and for a mapping with keys that are not text.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import difflib
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


def check_input(spec: Spec, params: t.Mapping[str, t.Any], prefix: str = "") -> None:
    """Refuse the first option that is unknown or has an invalid value; raises ``value_invalid``."""
    for name in params:
        if name not in spec:
            similar = difflib.get_close_matches(name, list(spec), 1)
            hint = f"did you mean {similar[0]}?" if similar else f"expected one of {', '.join(sorted(spec))}"
            raise OllamaError("value_invalid", f"{prefix}{name}: unknown option; {hint}")
    check_types(spec, params, prefix)


def check_types(spec: Spec, params: t.Mapping[str, t.Any], prefix: str = "") -> None:
    """Refuse the first option whose value has another type or is not one of its choices; raises ``value_invalid``."""
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
        check_input(option["options"], converted, f"{name}.")
    elif option.get("choices") and not isinstance(converted, bool) and converted not in option["choices"]:
        # ansible-core reads true and false as choices such as off.
        raise _invalid(name, option, value, f"one of {', '.join(map(str, option['choices']))}")


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
            # The other names are internal to ansible-core.
            check_input(argument_spec, {name: given[name] for name in given if not name.startswith("_ansible_")})
        except OllamaError as exc:
            # Secrets are still masked.
            names = [name for name in given if not name.startswith("_ansible_")]
            raw = {name: {"type": "raw", "no_log": argument_spec.get(name, {}).get("no_log", False)} for name in names}
            super().__init__(argument_spec=raw, supports_check_mode=True)
            self.fail_json(**exc.to_fail_json())
        super().__init__(argument_spec=argument_spec, **options)

    def log(self, msg: t.Any, log_args: t.Any = None) -> None:
        """Log a text without null characters, for which syslog raises an exception from Python 3.12 on."""
        super().log(msg.replace("\0", "\\0") if isinstance(msg, str) else msg, log_args)

    def fail_json(self, msg: str, **results: t.Any) -> t.NoReturn:
        """End the module; only the validation of ansible-core has no code."""
        if "failure" not in results:
            msg, results = one_line(msg), {**results, "failure": {"code": "value_invalid"}}
        super().fail_json(msg=msg, **results)
