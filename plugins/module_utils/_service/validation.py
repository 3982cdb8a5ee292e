# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validation of role variables: the types of an argument spec, then rules that a spec cannot express. Pure.

Ansible converts values only for its own check: a role receives the string ``a,b`` for a list, and would iterate over
its characters.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import ipaddress
import math
import re
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

from .._core.address import is_host_name, parse_ip, parse_url
from .._core.errors import OllamaError
from .._core.name import parse
from .._core.options import TYPES

Values = t.Mapping[str, t.Any]
Spec = t.Mapping[str, t.Any]
Rule = t.Callable[[t.Any], bool]

_SHOWN_LENGTH = 80


def error(variable: str, value: t.Any, expected: str, *, secret: bool = False) -> str:
    """Return the line for an invalid value. Secrets and values that may contain credentials are not shown."""
    shown = re.sub(r"\s+", " ", repr(value))
    if secret or "@" in shown:
        return f"{variable}: invalid value (not shown); expected {expected}"
    shown = shown if len(shown) <= _SHOWN_LENGTH else f"{shown[:_SHOWN_LENGTH]}..."
    return f"{variable}: invalid value {shown}; expected {expected}"


def spec_errors(options: t.Mapping[str, Spec], values: Values, types: t.Container[str] | None = None) -> list[str]:
    """Return one line for each variable that is set and does not match its option.

    :param types: the types to check; None for all.
    """
    found = []
    types = TYPES if types is None else types
    for name, option in options.items():
        if name in values and option.get("type", "str") in types:
            found += _option_errors(name, option, values[name])
    return found


def _option_errors(name: str, option: Spec, value: t.Any) -> list[str]:
    kind, secret = option.get("type", "str"), bool(option.get("no_log"))
    if not _has_type(kind, value):
        return [error(name, value, TYPES[kind], secret=secret)]
    choices = option.get("choices")
    if choices and kind != "list" and str(value) not in map(str, choices):
        return [error(name, value, ", ".join(str(choice) or "an empty string" for choice in choices), secret=secret)]
    if kind == "list":
        element = {**option, "type": option.get("elements", "raw")}
        return [line for index, item in enumerate(value) for line in _element_errors(f"{name}[{index}]", element, item)]
    if kind == "dict" and option.get("options"):
        return _mapping_errors(name, option["options"], value)
    return []


def _element_errors(name: str, element: Spec, item: t.Any) -> list[str]:
    if element["type"] == "raw":
        return []
    if element["type"] == "dict" and isinstance(item, t.Mapping) and element.get("options"):
        return _mapping_errors(name, element["options"], item)
    return _option_errors(name, {**element, "options": None}, item)


def _mapping_errors(name: str, options: t.Mapping[str, Spec], value: Values) -> list[str]:
    unknown = [key for key in value if key not in options]
    if unknown:
        return [error(f"{name}.{key}", value[key], f"only {', '.join(options)}", secret=True) for key in unknown]
    missing = [key for key, option in options.items() if option.get("required") and value.get(key) is None]
    if missing:
        return [f"{name}.{key}: missing" for key in missing]
    return [
        line
        for key, option in options.items()
        if value.get(key) is not None
        for line in _option_errors(f"{name}.{key}", option, value[key])
    ]


def _has_type(kind: str, value: t.Any) -> bool:
    if kind == "raw":
        return True
    if kind == "bool":
        return _is_boolean(value)
    if kind == "list":
        return isinstance(value, t.Sequence) and not isinstance(value, (str, bytes))
    if kind == "dict":
        return isinstance(value, t.Mapping)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    # Longer numbers are not converted.
    if kind == "int":
        return bool(re.match(r"-?\d{1,18}\Z", str(value)))
    if kind == "float":
        return bool(re.match(r"-?\d{1,18}(\.\d+)?\Z", str(value)))
    return kind != "path" or isinstance(value, str)


def _is_boolean(value: t.Any) -> bool:
    try:
        boolean(value)
    except TypeError:
        return False
    return True


# --- rules


def _matches(pattern: str) -> Rule:
    return lambda value: bool(re.match(f"(?:{pattern})\\Z", str(value)))


def _between(low: float, high: float) -> Rule:
    return lambda value: low <= float(value) <= high


def _is_listen_address(value: t.Any) -> bool:
    text = str(value)
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    ip = parse_ip(inner)
    # nginx and certificates do not support zones, such as that of fe80::1%eth0.
    return ip is not None and (inner == text or ip.version == 6) and "%" not in text


def _is_network(value: t.Any) -> bool:
    try:
        ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        return False
    # nginx does not support masks such as 255.0.0.0.
    return isinstance(value, str) and "%" not in value and "." not in value.partition("/")[2]


def _is_name(value: t.Any) -> bool:
    text = str(value)
    if parse_ip(text) is not None:
        return "%" not in text
    return is_host_name(text[2:] if text.startswith("*.") else text)


def _is_url(*schemes: str) -> Rule:
    def valid(value: t.Any) -> bool:
        try:
            return value == "" or not parse_url(value, schemes)[2]
        except ValueError:
            return False

    return valid


def _is_model(value: t.Any) -> bool:
    try:
        parse(value)
    except OllamaError:
        return False
    return True


_PACKAGE = _matches(r"[A-Za-z0-9][A-Za-z0-9.+_:-]{0,127}")
PORT = (_between(1, 65535), "a port from 1 to 65535")
_ADDRESS = (_is_listen_address, "an IP address, for example 0.0.0.0 or [::]")
_FILE = (_matches(r"(/[^\s\x00]+)?"), "an absolute path on the host, or an empty string")
_COUNT = (_between(0, 1000000), "a whole number from 0 to 1000000")
_CONNECTIONS = (_between(1, 99999), "a whole number from 1 to 99999")
_SECONDS = (_between(1, 2147483), "seconds, at least 1")

RULES: dict[str, tuple[Rule, str]] = {
    "ollama_mirror_address": _ADDRESS,
    "ollama_mirror_port": PORT,
    "ollama_mirror_allow[]": (_is_network, "an address or a network such as 10.0.0.0/8"),
    "ollama_mirror_url": (_is_url("http", "https"), "http://HOST:PORT or https://HOST:PORT, without a path"),
    "ollama_mirror_tls_certificate": _FILE,
    "ollama_mirror_tls_key": _FILE,
    "ollama_mirror_rate": (
        _matches(r"([1-9]\d*[kKmM])?"),
        "bytes per second with a unit, such as 500k or 20m, or an empty string for no limit",
    ),
    "ollama_mirror_connections": (
        lambda value: int(value) == 0 or 17 <= int(value) <= 99999,
        "0 for no limit, or a whole number from 17 to 99999, since a pull opens up to 17",
    ),
    "ollama_gateway_address": _ADDRESS,
    "ollama_gateway_port": PORT,
    "ollama_gateway_stats_port": PORT,
    "ollama_gateway_url": (_is_url("https"), "https://HOST or https://HOST:PORT, without a path"),
    "ollama_gateway_tls_certificate": _FILE,
    "ollama_gateway_tls_key": _FILE,
    "ollama_gateway_names[]": (_is_name, "a host name or an IP address"),
    "ollama_gateway_rate": _COUNT,
    "ollama_gateway_failure_rate": _COUNT,
    "ollama_gateway_connections": _CONNECTIONS,
    "ollama_gateway_token_connections": _CONNECTIONS,
    "ollama_gateway_max_body": (_matches(r"[1-9]\d{0,9}[kKmMgG]?"), "a size in bytes, such as 64m or 500k"),
    "ollama_gateway_timeout": _SECONDS,
    "ollama_gateway_queue_timeout": _SECONDS,
    "ollama_gateway_peer_secret": (
        _matches(r"([A-Za-z0-9._~+/=-]{20,256})?"),
        "20 to 256 letters, digits and - . _ ~ + / =, or an empty string",
    ),
    "ollama_client_group": (
        lambda value: _matches(r"[a-z_][a-z0-9_-]{0,31}")(value) and value != "root",
        "the name of a group other than root: lower-case letters, digits, _ and -, 32 characters at most",
    ),
    "ollama_client_services[]": (
        _matches(r"[A-Za-z0-9][A-Za-z0-9:_.\\@-]{0,254}"),
        "the name of a unit, for example notes.service",
    ),
    "ollama_client_forwarder_port": PORT,
    "ollama_monitoring_interval": (_between(5, 86400), "seconds, at least 5 and at most 86400"),
    "ollama_monitoring_verify_share": (_between(1, 100), "percent, 1 to 100"),
    "ollama_monitoring_verify_delay": (_between(0, 2147483), "seconds, at least 0"),
    "ollama_monitoring_verify_calendar": (
        _matches(r"[A-Za-z0-9*][A-Za-z0-9 *:,./~_+-]*"),
        "a calendar expression of systemd, such as weekly or *-*-* 03:00",
    ),
    "ollama_monitoring_gateway_status_port": PORT,
    "ollama_monitoring_textfile_directory": (_matches(r"/[^\s\x00]+"), "an absolute path"),
    "ollama_monitoring_exporter_package": (_PACKAGE, "the name of a package"),
    "ollama_benchmark_models[]": (_is_model, "names of models"),
    "ollama_benchmark_parallel": (bool, "at least one number"),
    "ollama_benchmark_parallel[]": (_between(1, 64), "1 to 64"),
    "ollama_benchmark_prompt_tokens": (bool, "at least one number"),
    "ollama_benchmark_prompt_tokens[]": (_between(1, 1000000), "1 to 1000000"),
    "ollama_benchmark_answer_tokens": (_between(1, 100000), "1 to 100000"),
    "ollama_benchmark_rounds": (_between(1, 100), "1 to 100"),
    "ollama_benchmark_time_limit": (_between(1, 86400), "seconds, 1 to 86400"),
    "ollama_benchmark_timeout": (_between(1, 86400), "seconds, 1 to 86400"),
    "ollama_benchmark_threshold": (_between(0, 1000), "percent, 0 to 1000"),
    "ollama_benchmark_dir": (_matches(r"[^\x00-\x1f\x7f]*"), "the path of a directory on the controller"),
    "ollama_update_drain": (_between(0, 2147483), "seconds, at least 0"),
    "ollama_update_serial[]": (
        _matches(r"[1-9]\d{0,5}|([1-9]\d?|100)%"),
        "a number of hosts from 1, or a percentage from 1% to 100%",
    ),
}
"""The rule for a value and its description, by variable; the suffix [] means each element of a list."""

PLAYBOOK_OPTIONS: dict[str, Spec] = {
    "ollama_update_serial": {"type": "list", "elements": "str"},
    "ollama_update_drain": {"type": "float"},
    "ollama_update_probe": {"type": "list", "elements": "str"},
}


def rule_errors(options: t.Mapping[str, Spec], values: Values) -> list[str]:
    """Return one line for each variable that is set, has the right type and violates its rule."""
    found = []
    for key, (valid, expected) in RULES.items():
        name = key[:-2] if key.endswith("[]") else key
        if name not in options or name not in values:
            continue
        secret = bool(options[name].get("no_log"))
        items = (
            [(f"{name}[{index}]", item) for index, item in enumerate(values[name])]
            if key.endswith("[]")
            else [(name, values[name])]
        )
        found += [error(where, item, expected, secret=secret) for where, item in items if not valid(item)]
    return found


def errors(options: t.Mapping[str, Spec], values: Values) -> list[str]:
    """Return all errors in the variables of a role. Rules are applied to values with the right type."""
    found = spec_errors(options, values)
    wrong = {re.split(r"[\[.:]", line, maxsplit=1)[0] for line in found}
    right = {name: value for name, value in values.items() if name not in wrong}
    return found + rule_errors(options, right) + _pair_errors(options, right)


def _pair_errors(options: t.Mapping[str, Spec], values: Values) -> list[str]:
    """Return an error if only one of certificate and key is set."""
    found = []
    for name in options:
        if not name.endswith("_tls_certificate"):
            continue
        key = name.replace("_tls_certificate", "_tls_key")
        if bool(values.get(name)) != bool(values.get(key)):
            missing = key if values.get(name) else name
            found.append(f"{missing}: missing; expected both {name} and {key}, or neither")
    return found
