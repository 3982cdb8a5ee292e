#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module certificate: the gateway's certificate, the user's own or one of a private authority."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Have a certificate for the gateway
version_added: 0.1.0
description:
  - A step of the role P(kaido.ollama.ollama_gateway#role). Keeps C(tls.crt) and C(tls.key) in O(directory), and with a
    private authority its C(ca.crt), and on the authority's host its C(ca.key).
  - Takes over a certificate of the user's, and refuses one that is expired, not for the gateway's name, or of another
    key; or has one from a private authority, which is made where it is missing, and renews it half a year before its
    end.
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
notes:
  - The codes in RV(failure.code) are C(not_root), C(bad_option), C(certificate_unreadable), C(certificate_expired),
    C(certificate_not_yet_valid), C(certificate_mismatch), C(certificate_wrong_name), C(no_authority), C(no_openssl)
    and C(openssl_failed).
  - Needs the program C(openssl).
"""

EXAMPLES = r"""
- name: Have a certificate of a private authority on this host
  kaido.ollama.certificate:
    names: [hecate.lan, 192.0.2.10]

- name: Take over one's own certificate
  kaido.ollama.certificate:
    certificate: /etc/letsencrypt/live/hecate.example.org/fullchain.pem
    key: /etc/letsencrypt/live/hecate.example.org/privkey.pem
    names: [hecate.example.org]
"""

RETURN = r"""
authority:
  description: The certificate of the private authority, PEM; empty where there is none.
  returned: success
  type: str
request:
  description: The request that the authority is to sign, PEM; empty where nothing is to be signed.
  returned: success
  type: str
signed:
  description: The certificate that was made for O(sign).
  returned: success
  type: str
reason:
  description: Why the certificate was made anew, or is to be; empty when it is good.
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

import contextlib
import os
import platform
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _certificate
from ..module_utils._argspec import finish
from ..module_utils._errors import OllamaError

# The key of a certificate that is being asked for.
PENDING = "tls.key.pending"


class Directory:
    """The files; in check mode they are only imagined."""

    def __init__(self, path: str, check_mode: bool) -> None:
        self.path = path
        self.check_mode = check_mode
        self.changed = False

    def read(self, name: str) -> str:
        """Return the content, '' where there is none."""
        try:
            with open(os.path.join(self.path, name), encoding="ascii", errors="replace") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def write(self, name: str, content: str, mode: int) -> None:
        """Replace the file as a whole, when it differs."""
        path = os.path.join(self.path, name)
        if self.read(name) == content and os.stat(path).st_mode & 0o7777 == mode:
            return
        self.changed = True
        if self.check_mode:
            return
        os.makedirs(self.path, 0o755, exist_ok=True)
        descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(path + ".new", path)

    def remove(self, name: str) -> None:
        """Remove the file, if it is there."""
        if not self.check_mode:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.path, name))


def run(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Have the certificate; returns the module's result."""
    if os.geteuid() != 0:
        raise OllamaError("not_root", "certificates are kept by root; set become: true")
    names = _certificate.check_names(params["names"], "ollama_gateway_names")
    directory = Directory(params["directory"], check_mode)
    result: dict[str, t.Any] = {"authority": "", "request": "", "signed": "", "reason": ""}
    if params["certificate"] or params["key"]:
        # The first name is what clients use; the others may be for other purposes.
        own = _certificate.check_names(params["names"][:1], "ollama_gateway_url")
        result["warnings"] = _take_over(params["certificate"], params["key"], own, directory)
    elif params["sign"]:
        authority, key = directory.read("ca.crt"), directory.read("ca.key")
        if not authority or not key:
            raise OllamaError("no_authority", f"{params['directory']}: there is no private authority")
        result.update(authority=authority, signed=_certificate.sign(params["sign"], names, authority, key))
    else:
        authority, key = (params["authority"], "") if params["authority"] else _authority(directory)
        directory.write("ca.crt", authority, 0o644)
        result["authority"] = authority
        if names:
            result.update(_have(directory, names, authority, key, params["signed"]))
    return {"changed": directory.changed, **result}


def _take_over(certificate: str | None, key: str | None, names: list[str], directory: Directory) -> list[str]:
    texts = []
    for variable, path in (("ollama_gateway_tls_certificate", certificate), ("ollama_gateway_tls_key", key)):
        if not path:
            raise OllamaError("bad_option", f"{variable}: is empty; a certificate and its key belong together")
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                texts.append(file.read())
        except OSError as exc:
            raise OllamaError("certificate_unreadable", f"{variable}: {path}: {exc.strerror}") from None
    what = f"ollama_gateway_tls_certificate: {certificate}"
    found = _certificate.read(texts[0], what)
    warnings = _certificate.judge(found, texts[1], names, what, time.time())
    directory.write("tls.key", texts[1], 0o600)
    directory.write("tls.crt", texts[0], 0o644)
    return warnings


def _authority(directory: Directory) -> tuple[str, str]:
    """Return the certificate and the key of this host's authority, made where one of them is missing."""
    authority, key = directory.read("ca.crt"), directory.read("ca.key")
    if not authority or not key:
        key = _certificate.new_key()
        authority = _certificate.new_authority(key, f"kaido.ollama on {platform.node()}")
        directory.write("ca.key", key, 0o600)
    return authority, key


def _have(directory: Directory, names: list[str], authority: str, key_of_it: str, signed: str) -> dict[str, t.Any]:
    """Have a certificate; one that is good stays in place until its successor is there.

    :param key_of_it: the authority's key; '' where that is on another host, which is to be asked then.
    """
    certificate, key = directory.read("tls.crt"), directory.read("tls.key")
    request, why = "", _certificate.why_not(certificate, key, names, authority, time.time())
    if why is None:
        return {"reason": ""}
    if signed:
        certificate, key = signed, directory.read(PENDING)
        wrong = _certificate.why_not(certificate, key, names, authority, time.time())
        if wrong:
            raise OllamaError("openssl_failed", f"the certificate that the authority made is no good: {wrong}")
    else:
        key = _certificate.new_key()
        request = _certificate.new_request(key, names[0])
        certificate = _certificate.sign(request, names, authority, key_of_it) if key_of_it else ""
    if certificate:
        directory.write("tls.key", key, 0o600)
        directory.write("tls.crt", certificate, 0o644)
        directory.remove(PENDING)
        return {"reason": why}
    directory.write(PENDING, key, 0o600)
    return {"reason": why, "request": request}


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
        },
        supports_check_mode=True,
    )
    finish(module, run)


if __name__ == "__main__":
    main()
