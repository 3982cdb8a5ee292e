#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module certificate: the gateway's certificate, the user's own or one of a private authority."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_certificate
short_description: Manage the TLS certificate of the gateway
version_added: 0.1.0
description:
  - A step of the role P(kaido.ollama.ollama_gateway#role). Keeps C(tls.crt) and C(tls.key) in O(directory), and with a
    private authority its C(ca.crt), and on the authority's host its C(ca.key).
  - Takes over a certificate of the user's, and refuses one that is expired, not for the gateway's name, or of another
    key; or uses one from a private authority, which is made where there has never been one, and renews the
    certificate half a year before its end.
  - Private keys never leave their host and are never returned.
author:
  - kaido.ollama contributors (@kaido)
extends_documentation_fragment:
  - kaido.ollama._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  directory:
    description: Where the files are; made with the mode V(0755) where it is missing.
    type: path
    default: /etc/ollama-gateway
  names:
    description: The names and addresses that clients use, the most important one first. None means only to have the
      authority.
    type: list
    elements: str
    default: []
  certificate:
    description: A certificate chain of one's own on the host, PEM, C(ollama_gateway_tls_certificate).
    type: path
  key:
    description: Its key, PEM, without a password, C(ollama_gateway_tls_key).
    type: path
  authority:
    description: The certificate of the private authority, PEM, where that is on another host. Empty, and without
      O(certificate), the authority is on this host.
    type: str
    default: ""
  signed:
    description: What the authority returned as RV(signed) for this host's RV(request).
    type: str
    default: ""
  sign:
    description: Another host's RV(request), for which this host's authority is to make a certificate with O(names).
    type: str
    default: ""
  create:
    description: Whether a private authority is made where this host has never had one. Where V(false), a host without
      one returns RV(request) instead.
    type: bool
    default: true
  renew_authority:
    description: Whether a private authority that is lost, expired, or ends within 180 days is replaced, and whether
      O(authority) replaces another one on this host. Clients trust the old one, so this is never done by itself. The
      old files are kept as C(ca.crt.old) and C(ca.key.old).
    type: bool
    default: false
notes:
  - The codes in RV(failure.code) are C(root_required), C(value_invalid), C(certificate_unreadable),
    C(certificate_expired), C(certificate_not_yet_valid), C(certificate_key_mismatch), C(certificate_name_mismatch),
    C(authority_missing), C(authority_damaged), C(authority_expired), C(authority_changed), C(file_unwritable),
    C(program_missing) and C(openssl_failed).
  - A private authority that is lost or expired fails before anything is signed or written.
  - Needs the program C(openssl).
"""

EXAMPLES = r"""
- name: Create a certificate of a private authority on this host
  kaido.ollama.gateway_certificate:
    names: [hecate.lan, 192.0.2.10]

- name: Install an existing certificate
  kaido.ollama.gateway_certificate:
    certificate: /etc/letsencrypt/live/hecate.example.org/fullchain.pem
    key: /etc/letsencrypt/live/hecate.example.org/privkey.pem
    names: [hecate.example.org]
"""

RETURN = r"""
authority:
  description: The certificate of the private authority, PEM; empty where there is none.
  returned: success
  type: str
names:
  description: The value of O(names), in the form in which names are compared.
  returned: success
  type: list
  elements: str
holds:
  description: Whether this host has the key of the authority.
  returned: success
  type: bool
serves:
  description: Whether the certificate in place is valid for clients, even where a new one is to be signed.
  returned: with O(names), and without O(certificate) and O(sign)
  type: bool
request:
  description: The request that the authority is to sign, PEM; empty where nothing is to be signed.
  returned: success
  type: str
signed:
  description: The certificate that was made for O(sign).
  returned: success
  type: str
reason:
  description: Why the certificate was made again, or is to be; empty when it is good.
  returned: success
  type: str
  sample: it ends soon
failure:
  description: Why it failed.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable name of the kind of failure, see the notes.
      type: str
      returned: always
    message:
      description: The same as RV(ignore:msg).
      type: str
      returned: always
"""

import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._core.errors import OllamaError
from ..module_utils._server.argspec import finish
from ..module_utils._service import authority as authority_module
from ..module_utils._service import certificates
from ..module_utils._service.authority import Directory

# The key of a certificate whose request is not answered yet.
PENDING = "tls.key.pending"


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring certificate and authority to the wanted state; returns the module's result."""
    if os.geteuid() != 0:
        raise OllamaError("root_required", "certificates are kept by root; set become: true")
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
        # The first name is what clients use; the others may be for other purposes.
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
        result.update(_have(directory, names, authority, key, params["signed"]))
    return {"changed": directory.changed, **result}


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


def _have(directory: Directory, names: list[str], authority: str, key_of_it: str, signed: str) -> dict[str, t.Any]:
    """Have a certificate; one that is good stays in place until its successor is there.

    :param key_of_it: the authority's key; '' where that is on another host, which is to be asked then.
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
            raise OllamaError("openssl_failed", f"the certificate that the authority made is no good: {wrong}")
    else:
        # The same key for each request, until one of them is answered.
        key = "" if key_of_it else directory.read(PENDING)
        if not certificates.is_key(key):
            key = certificates.new_key()
        request = certificates.new_request(key, names[0])
        certificate = certificates.sign(request, names, authority, key_of_it) if key_of_it else ""
    if certificate:
        directory.write("tls.key", key, 0o600)
        directory.write("tls.crt", certificate, 0o644)
        directory.remove(PENDING)
        return {"reason": why, "serves": True}
    directory.write(PENDING, key, 0o600)
    return {"reason": why, "request": request, "serves": serves}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/etc/ollama-gateway"},
            "names": {"type": "list", "elements": "str", "default": []},
            "certificate": {"type": "path"},
            "key": {"type": "path", "no_log": False},
            "authority": {"type": "str", "default": ""},
            "signed": {"type": "str", "default": ""},
            "sign": {"type": "str", "default": ""},
            "create": {"type": "bool", "default": True},
            "renew_authority": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
