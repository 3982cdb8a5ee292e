#!/usr/bin/python
# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module certificate: the gateway's certificate, the user's own or one of a private authority."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_certificate
short_description: Manage the TLS certificate of the gateway
version_added: 1.0.0
description:
  - A step of the role P(kaido.ollama.ollama_gateway#role). Manages C(tls.crt) and C(tls.key) in O(directory), with a
    private authority also C(ca.crt), and C(ca.key) on the host of the authority.
  - Installs the certificate of O(certificate), and fails if it has expired, is not valid for the name of the gateway,
    or does not belong to O(key).
  - Without O(certificate), a private authority signs the certificate. The authority is created if none has existed, and
    the certificate is renewed 180 days before it expires.
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
    description: Directory of the files. It is created with mode V(0755) if it is missing.
    type: path
    default: /etc/ollama-gateway
  names:
    description: Names and addresses that clients use, the most important name first. Without names, only the authority
      is managed.
    type: list
    elements: str
    default: []
  certificate:
    description: Existing certificate chain on the host, PEM, C(ollama_gateway_tls_certificate).
    type: path
  key:
    description: Key of O(certificate), PEM, without a password, C(ollama_gateway_tls_key).
    type: path
  authority:
    description: Certificate of the private authority, PEM, if the authority is on another host. If it is empty, and
      without O(certificate), the authority is on this host.
    type: str
    default: ""
  signed:
    description: The value RV(signed) that the host of the authority returned for RV(request) of this host.
    type: str
    default: ""
  sign:
    description: The value RV(request) of another host, for which the authority of this host signs a certificate with
      O(names).
    type: str
    default: ""
  create:
    description: Whether a private authority is created on a host that has never had one. With V(false), a host without
      an authority returns RV(request).
    type: bool
    default: true
  renew_authority:
    description: Whether a private authority is replaced if it is damaged or lost, has expired, or expires within 180
      days, and whether O(authority) replaces another authority on this host. Clients trust the current authority, so it
      is never replaced without this option. The files are backed up as C(ca.crt.old) and C(ca.key.old).
    type: bool
    default: false
notes:
  - The codes in RV(failure.code) are C(root_required), C(value_invalid), C(certificate_unreadable),
    C(certificate_expired), C(certificate_not_yet_valid), C(certificate_key_mismatch), C(certificate_name_mismatch),
    C(authority_missing), C(authority_damaged), C(authority_expired), C(authority_changed), C(file_unwritable),
    C(program_missing) and C(openssl_failed).
  - The module fails before anything is signed or written if the private authority is damaged or has expired.
  - Requires the program C(openssl).
"""

EXAMPLES = r"""
- name: Create a certificate of a private authority on this host
  kaido.ollama.gateway_certificate:
    names: [hecate.lan, 192.0.2.10]
  become: true
  register: certificate

- name: Save the certificate of the authority for clients
  ansible.builtin.copy:
    content: "{{ certificate.authority }}"
    dest: ./ca.crt
    mode: "0644"
  delegate_to: localhost

- name: Install an existing certificate
  kaido.ollama.gateway_certificate:
    certificate: /etc/letsencrypt/live/hecate.example.org/fullchain.pem
    key: /etc/letsencrypt/live/hecate.example.org/privkey.pem
    names: [hecate.example.org]
  become: true

- name: Replace a private authority that is lost or expired
  kaido.ollama.gateway_certificate:
    names: [hecate.lan]
    renew_authority: true
  become: true

- name: Create the certificate in another directory
  kaido.ollama.gateway_certificate:
    directory: /etc/ssl/ollama
    names: [hecate.lan, "*.llm.example.lan"]
  become: true
"""

RETURN = r"""
authority:
  description: Certificate of the private authority, PEM; empty without a private authority.
  returned: success
  type: str
  sample: "-----BEGIN CERTIFICATE-----\nMIIB...\n-----END CERTIFICATE-----\n"
names:
  description: The value of O(names), normalized for comparison.
  returned: success
  type: list
  elements: str
  sample: [hecate.lan, 192.0.2.10]
holds:
  description: Whether this host has the key of the authority.
  returned: success
  type: bool
  sample: true
serves:
  description: Whether clients accept the installed certificate, even if a new one has to be signed.
  returned: with O(names), and without O(certificate) and O(sign)
  type: bool
  sample: true
request:
  description: Certificate signing request for the authority, PEM; empty if none is pending.
  returned: success
  type: str
  sample: "-----BEGIN CERTIFICATE REQUEST-----\nMIHQ...\n-----END CERTIFICATE REQUEST-----\n"
signed:
  description: Certificate that was signed for O(sign).
  returned: success
  type: str
  sample: "-----BEGIN CERTIFICATE-----\nMIIB...\n-----END CERTIFICATE-----\n"
reason:
  description: The reason why the certificate was or has to be replaced; empty if it is valid.
  returned: success
  type: str
  sample: it expires soon
failure:
  description: The failure in machine-readable form.
  returned: failure
  type: dict
  contains:
    code:
      description: A stable code, see the notes.
      returned: always
      type: str
  sample:
    code: program_missing
"""

from ..module_utils._core.errors import finish
from ..module_utils._core.options import Module
from ..module_utils._service.certificate_call import SPEC, run


def main() -> None:
    """Run the module."""
    module = Module(argument_spec=SPEC, supports_check_mode=True)
    finish(module, run)


if __name__ == "__main__":
    main()
