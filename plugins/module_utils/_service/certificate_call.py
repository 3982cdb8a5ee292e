# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A call of the module gateway_certificate. The module service_info calls `unchanged` in its own process.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import time
import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .._core.errors import OllamaError
from .._core.host import require_root
from .._core.options import check_input
from . import authority as authority_module
from . import certificates
from .authority import Directory

SPEC: dict[str, t.Any] = {
    "directory": {"type": "path", "default": "/etc/ollama-gateway"},
    "names": {"type": "list", "elements": "str", "default": []},
    "certificate": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "authority": {"type": "str", "default": ""},
    "signed": {"type": "str", "default": ""},
    "sign": {"type": "str", "default": ""},
    "create": {"type": "bool", "default": True},
    "renew_authority": {"type": "bool", "default": False},
}

# The key of a certificate whose request has not been answered yet.
PENDING = "tls.key.pending"


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring certificate and authority to the desired state, and return the result of the module.

    :raises OllamaError: for invalid values, and the errors of certificates and authorities.
    """
    require_root("managing certificates")
    names = certificates.check_names(params["names"], "ollama_gateway_names")
    directory = Directory(params["directory"], check_mode)
    result: dict[str, t.Any] = {
        "authority": "",
        "holds": False,
        "names": names,
        "request": "",
        "signed": "",
        "reason": "",
    }
    if params["certificate"] or params["key"]:
        # Clients use the first name; the others may be for other purposes.
        own = certificates.check_names(params["names"][:1], "ollama_gateway_url")
        result["warnings"] = _take_over(params["certificate"], params["key"], own, directory)
        return {"changed": directory.changed, **result}
    if params["sign"]:
        authority, key = authority_module.complete(directory)
        if not authority and not key:
            raise OllamaError("authority_missing", f"{params['directory']}: there is no private authority")
        warnings = certificates.judge_authority(authority, key, params["directory"], time.time())
        result.update(authority=authority, holds=True, warnings=warnings)
        result["signed"] = certificates.sign(params["sign"], names, authority, key)
        return {"changed": directory.changed, **result}
    renew = params["renew_authority"]
    if params["authority"]:
        authority, key, warnings = authority_module.adopt(directory, params["authority"], renew)
    else:
        authority, key, warnings = authority_module.ensure(directory, params["create"], renew)
    result.update(authority=authority, holds=bool(key), warnings=warnings)
    if names:
        result.update(_issue(directory, names, authority, key, params["signed"]))
    return {"changed": directory.changed, **result}


def unchanged(given: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any] | None:
    """Return the result of a call that changes nothing; None if the call would change something or fail.

    :param given: the options of the module.
    :param check_mode: whether a result with predicted changes is returned as well.
    """
    try:
        check_input(SPEC, given)
        validated = ArgumentSpecValidator(SPEC).validate(dict(given))
        if validated.error_messages:
            return None
        result = run(validated.validated_parameters, True)
    except OllamaError:
        return None
    return result if check_mode or not (result["changed"] or result["request"]) else None


def _take_over(certificate: str | None, key: str | None, names: list[str], directory: Directory) -> list[str]:
    texts = []
    for variable, path in (("ollama_gateway_tls_certificate", certificate), ("ollama_gateway_tls_key", key)):
        if not path:
            raise OllamaError("value_invalid", f"{variable}: is empty; a certificate and its key belong together")
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                texts.append(file.read())
        except OSError as exc:
            raise OllamaError("certificate_unreadable", f"{variable}: {path}: {exc.strerror}") from None
    what = f"ollama_gateway_tls_certificate: {certificate}"
    found = certificates.read(texts[0], what)
    warnings = certificates.judge(found, texts[1], names, what, time.time())
    directory.write("tls.key", texts[1], 0o600)
    directory.write("tls.crt", texts[0], 0o644)
    return warnings


def _issue(directory: Directory, names: list[str], authority: str, authority_key: str, signed: str) -> dict[str, t.Any]:
    """Issue or request a certificate; a valid one stays in use until the new one is installed.

    :param authority_key: the key of the authority; '' if another host has it, which then signs a request.
    """
    certificate, key = directory.read("tls.crt"), directory.read("tls.key")
    request, why = "", certificates.why_not(certificate, key, names, authority, time.time())
    if why is None:
        return {"reason": "", "serves": True}
    serves = certificates.serves(certificate, key, authority, time.time())
    if signed:
        certificate, key = signed, directory.read(PENDING)
        wrong = certificates.why_not(certificate, key, names, authority, time.time())
        if wrong:
            raise OllamaError("openssl_failed", f"the certificate that the authority signed is not valid: {wrong}")
    else:
        # All requests use the same key until one of them is answered.
        key = "" if authority_key else directory.read(PENDING)
        if not certificates.is_key(key):
            key = certificates.new_key()
        request = certificates.new_request(key, names[0])
        certificate = certificates.sign(request, names, authority, authority_key) if authority_key else ""
    if certificate:
        directory.write("tls.key", key, 0o600)
        directory.write("tls.crt", certificate, 0o644)
        directory.remove(PENDING)
        return {"reason": why, "serves": True}
    directory.write(PENDING, key, 0o600)
    return {"reason": why, "request": request, "serves": serves}
