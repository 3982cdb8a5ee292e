# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request from the variables of the role ollama, and its validation. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
import typing as t
from dataclasses import dataclass, field, fields

from ansible.module_utils.parsing.convert_bool import boolean

from .._core.address import Address
from .._core.errors import OllamaError, json_object
from .._core.server import Server
from .._models.declaration import DeclaredModel, parse_models
from .._models.registry import Source, parse_mirror
from .._release import release as release_module
from .._server import settings as settings_module
from .paths import check_paths, normal

OLDEST_SAFE = (0, 35, 0)
# The first version with the path traversal in /api/pull; older versions have other vulnerabilities.
CVE = "CVE-2026-103663"
FIRST_WITH_CVE = (0, 34, 2)
_BOOLEANS = (
    *("fetch_checksum", "shared", "allow_vulnerable_version", "allow_open_network"),
    "accept_store_migration",
)
_USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\Z")
# Shared accounts and groups with the rights of root.
_USERS_OF_OTHERS = ("root", "nobody")
_GROUPS_OF_OTHERS = (
    *("root", "wheel", "sudo", "adm", "admin", "disk", "kmem", "shadow", "docker", "lxd", "libvirt", "nogroup"),
    "nobody",
)
_AMOUNT = r"infinity|\d+(\.\d+)?[KMGT]?|\d{1,2}(\.\d+)?%|100%"
_SET = r"\d+(-\d+)?([ ,]\d+(-\d+)?)*"
_WEIGHT = r"[1-9]\d{0,3}|10000"
# The pattern of the values and an example, by directive of ollama_unit_limits.
LIMITS: dict[str, tuple[str, str]] = {
    "AllowedCPUs": (_SET, "0-7"),
    "AllowedMemoryNodes": (_SET, "0"),
    "CPUQuota": (r"[1-9]\d*%", "400%"),
    "CPUWeight": (_WEIGHT, "50"),
    "IOWeight": (_WEIGHT, "50"),
    "LimitMEMLOCK": (_AMOUNT, "infinity"),
    "LimitNOFILE": (r"infinity|\d+(:\d+)?", "65536"),
    "MemoryHigh": (_AMOUNT, "24G"),
    "MemoryMax": (_AMOUNT, "32G"),
    "MemorySwapMax": (_AMOUNT, "0"),
    "Nice": (r"-?([0-9]|1[0-9])|-20", "5"),
    "OOMScoreAdjust": (r"-?([0-9]{1,3}|1000)", "500"),
    "TasksMax": (r"infinity|\d+%?", "512"),
}


# The minimum values: with less, the server cannot start or load a model.
_LEAST = {"MemoryMax": "256M", "MemoryHigh": "256M", "TasksMax": "64", "LimitNOFILE": "1024"}


@dataclass(frozen=True)
class HostRequest(Server):
    """The variables of the role: a server, and its desired state."""

    version: str = ""
    unit: str = ""
    """The text of the unit."""
    checksum: str | None = None
    checksums: t.Mapping[str, str] = field(default_factory=dict)
    fetch_checksum: bool = False
    variants: t.Sequence[str] = ()
    base_url: str = release_module.BASE_URL
    ca_path: str | None = None
    settings: t.Mapping[str, t.Any] = field(default_factory=dict)
    environment: t.Mapping[str, t.Any] = field(default_factory=dict)
    limits: t.Mapping[str, t.Any] = field(default_factory=dict)
    models: t.Sequence[t.Any] = ()
    lock: t.Mapping[str, str] = field(default_factory=dict)
    mirrors: t.Sequence[str] = ()
    models_mount_required: bool | str = False
    """Whether the directory must be a mount point; a string is the path of a mount point that must exist."""
    shared: bool = False
    """Whether the group can read the store, as a mirror requires."""
    platforms: t.Mapping[str, t.Mapping[str, t.Any]] = field(default_factory=dict)
    keep: int = 2
    allow_vulnerable_version: bool = False
    allow_open_network: bool = False
    accept_store_migration: bool = False


@dataclass(frozen=True)
class ValidRequest:
    """A valid request with the values that result from it."""

    address: Address
    environment: dict[str, str]
    raw_environment: dict[str, str]
    models: tuple[DeclaredModel, ...] = ()
    mirrors: tuple[Source, ...] = ()


OPTIONS: dict[str, dict[str, t.Any]] = {
    "keep": {"type": "int", "default": 2},
    "settings": {"type": "dict", "default": {}},
    "limits": {"type": "dict", "default": {}},
    "models": {"type": "list", "elements": "raw", "default": []},
    "mirrors": {"type": "list", "elements": "str", "default": []},
    "allow_vulnerable_version": {"type": "bool", "default": False},
    "allow_open_network": {"type": "bool", "default": False},
    "accept_store_migration": {"type": "bool", "default": False},
}
"""Options of the module preflight that a request consists of, beside texts and paths."""


def from_options(options: t.Mapping[str, t.Any]) -> HostRequest:
    """Return the request from options of the module preflight, which may be strings or converted values. Pure."""
    given = {field.name: options[field.name] for field in fields(HostRequest) if options.get(field.name) is not None}
    for name, value in given.items():
        if name in ("models_dir", "install_dir", "home", "bin_dir"):
            given[name] = normal(str(value))
        elif name in _BOOLEANS:
            given[name] = boolean(value, strict=True)
    mount = given.get("models_mount_required", False)
    if not isinstance(mount, bool):
        text = str(mount)
        known = {"true": True, "yes": True, "false": False, "no": False}
        given["models_mount_required"] = known.get(text.lower(), normal(text) if text.startswith("/") else text)
    if isinstance(given.get("environment"), str):
        given["environment"] = json_object(given["environment"], "environment")
    return HostRequest(**{**given, "keep": int(given.get("keep", 2))})


def validate(request: HostRequest) -> ValidRequest:
    """Refuse a request that no host can meet. Pure.

    :raises OllamaError: with the variable, its value and the expected values.
    """
    version = release_module.parse_version(request.version, what="ollama_version")
    if version < OLDEST_SAFE and not request.allow_vulnerable_version:
        raise OllamaError(
            "version_vulnerable",
            f"ollama_version: invalid value {request.version!r}; expected 0.35.0 or newer, as older versions have "
            f"known vulnerabilities ({CVE}), or ollama_allow_vulnerable_version: true",
            variable="ollama_version",
        )
    if request.keep < 1:
        raise OllamaError(
            "value_invalid",
            f"ollama_release_keep: invalid value {request.keep}; expected a whole number of at least 1",
        )
    check_paths(request.models_dir, request.install_dir, request.home)
    _check_mount(request)
    _check_names(request)
    check_limits(request.limits)
    environment, raw = settings_module.merge(request.settings, request.environment, request.models_dir)
    address = settings_module.address(request.settings, allow_open_network=request.allow_open_network)
    models = check_models(request, allow_cloud=environment.get("OLLAMA_NO_CLOUD") == "0")
    mirrors = tuple(parse_mirror(url, what="ollama_mirrors") for url in request.mirrors)
    return ValidRequest(address, environment, raw, tuple(models), mirrors)


def _check_mount(request: HostRequest) -> None:
    point = request.models_mount_required
    if isinstance(point, bool) or (point and (request.models_dir + "/").startswith(point.rstrip("/") + "/")):
        return
    raise OllamaError(
        "value_invalid",
        f"ollama_models_mount_required: invalid value {point!r}; expected true, false, or the path of a mount point "
        f"that is {request.models_dir} or above it",
        variable="ollama_models_mount_required",
    )


def _check_names(request: HostRequest) -> None:
    for variable, name, others in (
        ("ollama_user", request.user, _USERS_OF_OTHERS),
        ("ollama_group", request.group, _GROUPS_OF_OTHERS),
    ):
        if not _USER_NAME.match(name) or name in others:
            what = "group" if variable == "ollama_group" else "system account"
            raise OllamaError(
                "value_invalid",
                f"{variable}: invalid value {name!r}; expected the name of a {what} that only this server uses",
                variable=variable,
            )


def vulnerability(version: str | None) -> str | None:
    """Return a warning about a release on a host if it is vulnerable, or None. Pure."""
    with contextlib.suppress(OllamaError):
        if version and FIRST_WITH_CVE <= release_module.parse_version(version) < OLDEST_SAFE:
            return f"Ollama {version} is vulnerable ({CVE}: path traversal in /api/pull); 0.35.0 contains the fix"
    return None


def check_models(request: HostRequest, *, allow_cloud: bool) -> list[DeclaredModel]:
    """Refuse invalid models and pins before anything changes; the module model runs after changes to the server."""
    try:
        models = parse_models(
            request.models, state="present", allow_cloud=allow_cloud, locked=request.lock, variable="ollama_models"
        )
    except OllamaError as exc:
        if exc.code != "model_in_cloud":
            raise
        text = exc.message.replace("allow_cloud: true", "ollama_settings.no_cloud: false")
        raise OllamaError(exc.code, text, **exc.details) from None
    _check_absent(request.models)
    return models


def _check_absent(models: t.Sequence[t.Any]) -> None:
    for index, item in enumerate(models):
        unused = [key for key in ("digest", "aliases") if isinstance(item, dict) and item.get(key)]
        if unused and item.get("state") == "absent":
            raise OllamaError(
                "model_invalid",
                f"ollama_models[{index}].{unused[0]}: invalid value {item[unused[0]]!r}; expected no {unused[0]} with "
                "state: absent",
            )


def check_limits(limits: t.Mapping[str, t.Any]) -> None:
    """Refuse a directive of ollama_unit_limits that systemd would ignore or interpret differently.

    :raises OllamaError: ``limit_unknown`` or ``limit_invalid``.
    """
    for name, value in limits.items():
        where = f"ollama_unit_limits.{name}"
        if name not in LIMITS:
            close = difflib.get_close_matches(str(name), LIMITS, n=1)
            hint = f"expected {close[0]}" if close else "expected one of " + ", ".join(LIMITS)
            raise OllamaError(
                "limit_unknown",
                f"{where}: unknown limit; {hint} (other directives belong in a drop-in)",
                variable=where,
            )
        pattern, example = LIMITS[name]
        if isinstance(value, bool) or not re.match(f"({pattern})\\Z", str(value)):
            raise OllamaError(
                "limit_invalid", f"{where}: invalid value {value!r}; expected for example {example}", variable=where
            )
        least = _LEAST.get(name)
        if least and _amount(str(value)) < _amount(least):
            raise OllamaError(
                "limit_invalid",
                f"{where}: invalid value {value!r}; expected at least {least}, below which the server does not start",
                variable=where,
            )


def _amount(text: str) -> float:
    """Return the number of a limit; a percentage of the host's memory counts as no limit."""
    match = re.match(r"(\d+(?:\.\d+)?)([KMGT]?)\Z", text.split(":")[0])
    return float(match[1]) * 1024 ** " KMGT".index(match[2] or " ") if match else math.inf
