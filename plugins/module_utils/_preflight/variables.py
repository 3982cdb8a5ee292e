# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The type and form of each variable of the role ollama in the inventory. Pure.

Ansible converts values before it compares them with an argument specification: a string with commas becomes a list, and
``key=value`` becomes a mapping. These rules apply to the original values, on the controller, before any host is
contacted.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t
from urllib.parse import urlsplit

from ansible.module_utils.parsing.convert_bool import boolean

from .._core.errors import OllamaError
from .._release.release import VARIANTS, parse_checksum, parse_version

Rule = t.Callable[[t.Any], t.Optional[str]]
"""Takes a value and returns a description of the expected values; None if the value is valid."""

SECRETS = ("ollama_environment", "ollama_release_proxy")
_ARCHIVE = re.compile(r"ollama-linux-[a-z0-9_-]+\.tar\.zst\Z")
_LONGEST = 7 * 24 * 3600


def _boolean(value: t.Any) -> str | None:
    try:
        boolean(value, strict=True)
    except TypeError:
        return "true or false"
    return None


def _text(what: str, *, empty: bool = False) -> Rule:
    def rule(value: t.Any) -> str | None:
        valid = isinstance(value, str) and (empty or value.strip() != "") and value.isprintable()
        return None if valid else what

    return rule


def _number(what: str, least: float, most: float, *, whole: bool = False) -> Rule:
    def rule(value: t.Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return what
        try:
            number = int(str(value)) if whole else float(value)
        except (OverflowError, ValueError):
            return what
        return None if least <= number <= most else what

    return rule


def _choice(*names: str) -> Rule:
    def rule(value: t.Any) -> str | None:
        # YAML 1.1 reads off as false.
        text = "off" if value is False and "off" in names else value
        return None if isinstance(text, str) and text in names else "one of " + ", ".join(names)

    return rule


def _mapping(value: t.Any) -> str | None:
    if not isinstance(value, t.Mapping):
        return "a mapping of names to values, {} for none"
    return None if all(isinstance(name, str) for name in value) else "a mapping with strings as keys"


def _list(what: str, item: Rule | None = None) -> Rule:
    def rule(value: t.Any) -> str | None:
        if isinstance(value, (str, bytes)) or not isinstance(value, t.Sequence):
            return f"a list of {what}, [] for none"
        return f"a list of {what}" if item and any(item(entry) for entry in value) else None

    return rule


def _version(value: t.Any) -> str | None:
    try:
        parse_version(value)
    except OllamaError:
        return "a version such as 0.35.1, in quotes and without a v"
    return None


def _checksum(value: t.Any) -> str | None:
    if value == "":
        return None
    try:
        parse_checksum(value)
    except OllamaError:
        return "sha256: and 64 hexadecimal digits, or an empty string for the known checksum of ollama_version"
    return None if isinstance(value, str) else "a string in quotes"


def _checksums(value: t.Any) -> str | None:
    expected = "a mapping of versions to mappings of archive names to checksums of sha256"
    if not isinstance(value, t.Mapping):
        return expected
    for version, archives in value.items():
        if _version(version) or not isinstance(archives, t.Mapping):
            return expected
        for name, checksum in archives.items():
            if not isinstance(name, str) or not _ARCHIVE.match(name) or checksum == "" or _checksum(checksum):
                return expected
    return None


def _base_url(value: t.Any) -> str | None:
    expected = "an http://, https:// or file:/// URL with releases below it, in the layout of the official site"
    if not isinstance(value, str) or re.search(r"\s", value):
        return expected
    try:
        url = urlsplit(value)
        port_valid = url.port is None or url.port > 0
    except ValueError:
        return expected
    if url.scheme == "file":
        return None if not url.netloc and url.path.startswith("/") else expected
    return None if url.scheme in ("http", "https") and url.hostname and port_valid else expected


def _proxy(value: t.Any) -> str | None:
    expected = "the URL of a proxy such as http://proxy.lan:3128, or an empty string"
    if value == "":
        return None
    if not isinstance(value, str) or re.search(r"\s", value):
        return expected
    try:
        url = urlsplit(value)
        valid = url.scheme in ("http", "https") and url.hostname and (url.port is None or url.port > 0)
    except ValueError:
        return expected
    return None if valid else expected


def _absolute(value: t.Any) -> str | None:
    valid = isinstance(value, str) and value.isprintable() and (value == "" or value.startswith("/"))
    return None if valid else "the absolute path of a file on the host, or an empty string"


def _mount_point(value: t.Any) -> str | None:
    if isinstance(value, str) and value.startswith("/") and value.isprintable():
        return None
    return _boolean(value) and "true, false, or the absolute path of a mount point"


def _archive(value: t.Any) -> str | None:
    valid = isinstance(value, str) and _ARCHIVE.match(value.rsplit("/", 1)[-1])
    return None if valid else "the path of an archive under its official name"


def _lock(value: t.Any) -> str | None:
    valid = isinstance(value, (str, t.Mapping)) and (not isinstance(value, str) or value.isprintable())
    return None if valid else "the path of a lock file on the controller, its content, or {} for none"


_KEEP = _number("a whole number of at least 1", 1, 1000, whole=True)
_TIMEOUT = _number(f"seconds from 1 to {_LONGEST}", 1, _LONGEST)
_NAME = _text("the name of a system account")
_DIRECTORY = _text("the absolute path of a directory")

RULES: dict[str, Rule] = {
    "ollama_version": _version,
    "ollama_settings": _mapping,
    "ollama_environment": _mapping,
    "ollama_models": _list("model names or mappings"),
    "ollama_models_exclusive": _boolean,
    "ollama_models_keep": _list("model names", _text("a model name")),
    "ollama_models_parallel": _number("a whole number from 1 to 64", 1, 64, whole=True),
    "ollama_models_stall_timeout": _number("seconds from 1 to 86400", 1, 86400),
    "ollama_models_deadline": _number("seconds from 0 to 31536000", 0, 31536000),
    "ollama_models_lock": _lock,
    "ollama_mirrors": _list("registry URLs", _text("a URL")),
    "ollama_mirrors_trusted": _boolean,
    "ollama_models_dir": _DIRECTORY,
    "ollama_models_mount_required": _mount_point,
    "ollama_models_verify": _choice("changed", "full", "none"),
    "ollama_startup_timeout": _TIMEOUT,
    "ollama_release_base_url": _base_url,
    "ollama_release_proxy": _proxy,
    "ollama_release_ca_path": _absolute,
    "ollama_release_archives": _list("paths of archives, under their official names", _archive),
    "ollama_release_variants": _list("variants out of " + ", ".join(VARIANTS), _choice(*VARIANTS)),
    "ollama_release_checksum": _checksum,
    "ollama_release_checksums": _checksums,
    "ollama_release_fetch_checksum": _boolean,
    "ollama_release_keep": _KEEP,
    "ollama_install_dir": _DIRECTORY,
    "ollama_user": _NAME,
    "ollama_group": _text("the name of a group"),
    "ollama_gpu": _choice("required", "preferred", "off"),
    "ollama_sandbox": _boolean,
    "ollama_unit_limits": _mapping,
    "ollama_remove_models": _boolean,
    "ollama_allow_vulnerable_version": _boolean,
    "ollama_allow_open_network": _boolean,
    "ollama_accept_store_migration": _boolean,
}
"""The rules by variable of the role ollama. A test compares the names with its defaults."""


def check_variables(values: t.Mapping[str, t.Any]) -> None:
    """Refuse the first variable whose value has an invalid type or form.

    :param values: the defined variables of the role ollama by name.
    :raises OllamaError: ``value_invalid`` with the variable, the value unless it may be secret, and the expected
        values.
    """
    for name, rule in RULES.items():
        if name in values:
            expected = rule(values[name])
            if expected:
                raise invalid_variable(name, values[name], expected)


def invalid_variable(name: str, value: t.Any, expected: str) -> OllamaError:
    """Return the error of a variable with an invalid value."""
    shown = "(hidden)" if name in SECRETS else _shown(value)
    return OllamaError("value_invalid", f"{name}: invalid value {shown}; expected {expected}", variable=name)


def _shown(value: t.Any) -> str:
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def check_checksum_version(checksum: str, version: str, known: t.Mapping[str, t.Mapping[str, str]]) -> None:
    """Refuse a checksum that is known to be that of another version, before a download that would fail at its end.

    :param known: the known checksums by version and archive.
    :raises OllamaError: ``value_invalid``.
    """
    if not checksum:
        return
    wanted = parse_checksum(checksum)
    of = [name for name, archives in known.items() if wanted in map(parse_checksum, archives.values())]
    if of and version not in of:
        raise invalid_variable(
            "ollama_release_checksum", checksum, f"the checksum of {version}; this one is of {', '.join(sorted(of))}"
        )
