# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of the server: their names, their values and their environment variables. Pure.

Ollama interprets an unknown word as true, and ignores values that it cannot parse. Therefore this module validates all
values before anything on a host changes.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import typing as t
from urllib.parse import urlsplit

from .._core.address import SERVER_PORT, Address, parse_address, parse_url
from .._core.errors import OllamaError

DEFAULTS: dict[str, t.Any] = {"host": f"127.0.0.1:{SERVER_PORT}", "no_cloud": True}

_DURATION = re.compile(r"[-+]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+\Z")
# Python does not convert a text of more than 4300 digits.
_INTEGER = re.compile(r"[-+]?\d{1,99}\Z")
_SIZE = re.compile(r"(\d{1,99})\s*([KMGT]?)(i?B)?\Z", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ORIGIN_SCHEMES = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)
_CACHE_TYPES = ("f16", "q8_0", "q4_0")


class _Refused(ValueError):
    """An invalid value of a setting; the text describes the expected values."""


def parse_host(value: t.Any) -> Address:
    """Return the address in a value of the setting ``host``.

    :raises ValueError: with the expected form.
    """
    expected = f"expected HOST or HOST:PORT, for example 127.0.0.1:{SERVER_PORT} or [::1]:{SERVER_PORT}"
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str):
        if text.startswith("https://"):
            raise _Refused("the server does not support TLS; " + expected)
        if text.startswith("http://"):
            text = text[len("http://") :]
            if "/" in text.rstrip("/"):
                raise _Refused("a listen address has no path; " + expected)
            text = text.rstrip("/")
            if not re.search(r":\d+\Z", text):
                raise _Refused("with http:// and no port, Ollama listens on port 80; " + expected)
        if re.match(r":\d*\Z", text):
            raise _Refused("without an address, Ollama listens on all interfaces; " + expected)
    try:
        return parse_address(text, SERVER_PORT)
    except ValueError as exc:
        raise _Refused(str(exc)) from None


def _host(value: t.Any) -> str:
    return str(parse_host(value))


def _boolean(value: t.Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    text = str(value).strip().lower()
    if text in ("1", "true"):
        return "1"
    if text in ("0", "false"):
        return "0"
    raise _Refused("expected true or false (Ollama interprets other words as true)")


def _integer(minimum: int, maximum: int = (1 << 63) - 1) -> t.Callable[[t.Any], str]:
    def parse(value: t.Any) -> str:
        if not isinstance(value, bool) and isinstance(value, (int, str)) and _INTEGER.match(str(value).strip()):
            number = int(value)
            if minimum <= number <= maximum:
                return str(number)
        above = f"of at least {minimum}" if maximum == (1 << 63) - 1 else f"from {minimum} to {maximum}"
        raise _Refused(f"expected a whole number {above}")

    return parse


def _size(value: t.Any) -> str:
    match = None if isinstance(value, bool) or not isinstance(value, (int, str)) else _SIZE.match(str(value).strip())
    if not match:
        raise _Refused("expected a number of bytes, or one with K, M, G or T (powers of 1024), for example 2G")
    return str(int(match.group(1)) << (10 * " KMGT".index(match.group(2).upper() or " ")))


def _duration(value: t.Any) -> str:
    if not isinstance(value, bool) and isinstance(value, (int, str)):
        text = str(value).strip()
        if _INTEGER.match(text) or _DURATION.match(text):
            return text
    raise _Refused("expected a number with a unit (30m, 1h30m, 90s) or whole seconds; a negative value means no limit")


def _debug(value: t.Any) -> str:
    if not isinstance(value, bool) and str(value).strip() == "2":
        return "2"
    try:
        return _boolean(value)
    except _Refused:
        raise _Refused("expected false, true or 2 (trace)") from None


def _words(value: t.Any, what: str) -> list[str]:
    """Return the parts of a list or of a comma-separated text; none may be empty or contain a space."""
    items = value
    if isinstance(value, str):
        items = [item.strip() for item in value.split(",")]
    elif isinstance(value, int):
        items = [value]
    if not isinstance(items, list) or not items:
        raise _Refused(f"expected a list of {what}")
    words = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (str, int)) or not re.match(r"[^\s,]+\Z", str(item)):
            raise _Refused(f"expected a list of {what}, without spaces")
        words.append(str(item))
    return words


def _origins(value: t.Any) -> str:
    words = _words(value, "origins such as https://app.lan, http://*.lan or *")
    for word in words:
        if word.count("*") > 1:
            raise _Refused(f"expected at most one * in {word!r}")
        if "*" not in word and not word.startswith(_ORIGIN_SCHEMES):
            raise _Refused(f"expected a scheme in {word!r}, for example https://{word}")
    return ",".join(words)


def _list_of(what: str, pattern: str) -> t.Callable[[t.Any], str]:
    def parse(value: t.Any) -> str:
        words = _words(value, what)
        if not all(re.match(pattern + r"\Z", word) for word in words):
            raise _Refused(f"expected a list of {what}")
        return ",".join(words)

    return parse


def _text(what: str, pattern: str) -> t.Callable[[t.Any], str]:
    def parse(value: t.Any) -> str:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            text = str(value).strip()
            if re.match(pattern + r"\Z", text):
                return text
        raise _Refused(f"expected {what}")

    return parse


def _cloud_url(value: t.Any) -> str:
    with contextlib.suppress(ValueError):
        if not parse_url(value)[2]:
            return str(value)
    raise _Refused("expected scheme://host[:port] without a path or a user name")


def _proxy(value: t.Any) -> str:
    if isinstance(value, str) and "@" in value:
        raise _Refused("expected no credentials; put such a URL into ollama_environment, whose values are not printed")
    if isinstance(value, str) and "://" not in value:
        raise _Refused("expected a URL such as http://proxy.lan:3128")
    _check_proxy(value)
    return str(value)


def _is_proxy(value: t.Any) -> bool:
    try:
        _check_proxy(value)
    except _Refused:
        return False
    return True


def _check_proxy(value: t.Any) -> None:
    """Refuse values that are not a proxy for Go, for which a URL without a scheme is one with http://."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(value if "://" in str(value) else f"http://{value}")
        known = parts.scheme in ("http", "https", "socks5", "socks5h")
        host = parts.netloc.rpartition("@")[2]
        if known and isinstance(value, str) and not re.search(r"\s", value) and not parts.query + parts.fragment:
            parse_address(host, 1)
            if (host.startswith("[") or host.count(":") < 2) and not parts.path.strip("/"):
                return
    raise _Refused("expected a URL such as http://proxy.lan:3128")


_DEVICES = _list_of("device numbers or identifiers", r"[A-Za-z0-9_.:/-]+")
_GFX = _text("a version such as 10.3.0", r"\d+\.\d+\.\d+|gfx[0-9a-f]+")

# The parsers of values by key of ollama_settings. The variable is OLLAMA_<KEY>, unless the key is in _PLAIN.
SETTINGS: dict[str, t.Callable[[t.Any], str]] = {
    "auth": _boolean,
    "cloud_base_url": _cloud_url,
    "context_length": _integer(0),
    "create_remote": _boolean,
    "debug": _debug,
    "debug_log_requests": _boolean,
    "editor": _text("the name of a program", r"\S.*"),
    "flash_attention": _boolean,
    "go_template": _boolean,
    "gpu_overhead": _size,
    "host": _host,
    "igpu_enable": _boolean,
    "keep_alive": _duration,
    "kv_cache_type": _text(" or ".join(_CACHE_TYPES), "|".join(_CACHE_TYPES)),
    "llm_library": _text("the name of a directory in lib/ollama, for example cuda_v12, or cpu", r"[A-Za-z0-9_]+"),
    "load_timeout": _duration,
    "max_loaded_models": _integer(0),
    "max_queue": _integer(1),
    "max_transfer_streams": _integer(1),
    "no_cloud": _boolean,
    "nohistory": _boolean,
    "noprune": _boolean,
    "num_parallel": _integer(1),
    "origins": _origins,
    "remotes": _list_of("host names", r"[A-Za-z0-9_.:-]+"),
    "sched_spread": _boolean,
    "vulkan": _boolean,
    "cuda_visible_devices": _DEVICES,
    "ggml_vk_visible_devices": _DEVICES,
    "gpu_device_ordinal": _DEVICES,
    "hip_visible_devices": _DEVICES,
    "hsa_override_gfx_version": _GFX,
    **{f"hsa_override_gfx_version_{device}": _GFX for device in range(16)},
    "http_proxy": _proxy,
    "https_proxy": _proxy,
    "jetson_jetpack": _integer(5, 6),
    "llama_arg_fit": _text("on or off, in quotes", r"on|off"),
    "llama_arg_fit_target": _text("MiB a device, separated by commas", r"\d+(,\d+)*"),
    "no_proxy": _list_of("hosts and networks", r"[A-Za-z0-9_.:*/\[\]-]+"),
    "rocr_visible_devices": _DEVICES,
    "ssl_cert_dir": _text("an absolute path", r"/\S*"),
    "ssl_cert_file": _text("an absolute path", r"/\S*"),
}
_PLAIN = frozenset(list(SETTINGS)[list(SETTINGS).index("cuda_visible_devices") :])


def variable(key: str) -> str:
    """Return the name of the environment variable of a key of ollama_settings."""
    return key.upper() if key in _PLAIN else "OLLAMA_" + key.upper()


def render(settings: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return the environment variables of settings, including the secure defaults, sorted by name.

    :raises OllamaError: ``setting_unknown`` or ``setting_invalid``.
    """
    for key in settings:
        if key not in SETTINGS:
            raise _unknown(key)
    result: dict[str, str] = {}
    for key, value in {**DEFAULTS, **settings}.items():
        try:
            result[variable(key)] = SETTINGS[key](value)
        except _Refused as exc:
            shown = "(hidden)" if "credentials" in str(exc) else repr(value)
            raise OllamaError(
                "setting_invalid",
                f"ollama_settings.{key}: invalid value {shown}; {exc}",
                variable=f"ollama_settings.{key}",
            ) from None
    return dict(sorted(result.items()))


def _unknown(key: t.Any) -> OllamaError:
    plain = re.sub(r"^ollama_", "", str(key).lower().replace("-", "_"))
    if plain == "models":
        hint = "expected ollama_models_dir for the directory of the models"
    else:
        close = difflib.get_close_matches(plain, SETTINGS, n=1)
        hint = (
            f"expected {close[0]}"
            if close
            else "expected one of " + ", ".join(k for k in SETTINGS if k[-1] not in "0123456789")
        )
    return OllamaError(
        "setting_unknown",
        f"ollama_settings.{key}: unknown setting; {hint} (any other variable belongs in ollama_environment)",
        variable=f"ollama_settings.{key}",
    )


def merge(
    settings: t.Mapping[str, t.Any], raw: t.Mapping[str, t.Any], models_dir: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the content of the environment file: the variables of the settings, and those of ollama_environment.

    :param raw: ollama_environment. It may contain secrets, so messages do not show its values.
    :raises OllamaError: ``setting_unknown``, ``setting_invalid`` or ``environment_invalid``.
    """
    own = {variable(key) for key in settings}
    extra: dict[str, str] = {}
    for name, value in raw.items():
        where = f"ollama_environment.{name}"
        if not isinstance(name, str) or not _VARIABLE.match(name):
            why = "is not the name of an environment variable; expected letters, digits and _"
        elif name in ("OLLAMA_HOST", "OLLAMA_MODELS"):
            why = "is derived; expected " + ("ollama_settings.host" if name == "OLLAMA_HOST" else "ollama_models_dir")
        elif name == "HOME":
            why = "is the home directory of ollama_user; expected no such variable"
        elif name in own:
            why = "is also in ollama_settings; expected it in one of the two"
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            why = f"is of type {type(value).__name__}; expected text or a number (put true and false in quotes)"
        elif re.search(r"[\x00-\x08\x0a-\x1f\x7f]", str(value)):
            why = "has a line break or control character in its value; expected one line of text"
        elif name.upper() in ("HTTP_PROXY", "HTTPS_PROXY") and value and not _is_proxy(value):
            why = "is not the URL of a proxy; expected a URL such as http://proxy.lan:3128"
        else:
            extra[name] = str(value)
            continue
        raise OllamaError("environment_invalid", f"{where} {why}", variable=where)
    rendered = {name: value for name, value in render(settings).items() if name not in extra}
    return dict(sorted({**rendered, "OLLAMA_MODELS": models_dir}.items())), extra


def address(settings: t.Mapping[str, t.Any], *, allow_open_network: bool) -> Address:
    """Return the address on which the server listens.

    :raises OllamaError: ``server_exposed`` for an address that is reachable from the network without permission.
    """
    result = parse_host(settings.get("host", DEFAULTS["host"]))
    if not result.is_loopback and not allow_open_network:
        raise OllamaError(
            "server_exposed",
            f"ollama_settings.host: invalid value {settings['host']!r}; expected a loopback address, as Ollama "
            "has no authentication: ollama_gateway_enabled: true gives access over TLS with tokens, and "
            "ollama_allow_open_network: true allows this address",
            variable="ollama_settings.host",
        )
    return result


def parse_environment_file(text: str, *, strict: bool = True) -> dict[str, str]:
    """Return the variables of an environment file in the form of the role: NAME="value" with escaped characters.

    :param strict: whether a line in another form counts as a difference; otherwise common forms are parsed.
    """
    result: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r'([A-Za-z_][A-Za-z0-9_]*)="(.*)"\Z', line)
        if match:
            result[match.group(1)] = re.sub(r'\\([\\"$`])', r"\1", match.group(2))
        elif not strict and re.match(r"[A-Za-z_][A-Za-z0-9_]*=", line):
            name, _equals, value = line.partition("=")
            result[name] = value.strip().strip("\"'")
        elif strict and line.strip() and not line.startswith("#"):
            result[line] = ""
    return result
