# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of the gateway: a private authority, the certificates that it signs, and checks of provided ones.

All cryptography is done by openssl. Authorities have the extensions of RFC 5280 that Python 3.13 requires: key
identifiers and critical constraints.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import tempfile
import time
import typing as t
from dataclasses import dataclass

from .._core import command
from .._core.errors import OllamaError

DAY = 86400
# Apple's clients accept at most 825 days.
DAYS, RENEW_DAYS, AUTHORITY_DAYS = 825, 180, 3650
WARN_DAYS = 21
AUTHORITY = "kaido.ollama on "
"""The prefix of the names of private authorities; the name of the host follows."""

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?{_LABEL}(\.{_LABEL})*\Z")

_REQUEST = """\
[req]
distinguished_name = name
prompt = no
x509_extensions = authority
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_LEAF = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


@dataclass(frozen=True)
class Certificate:
    """The content of a certificate."""

    names: frozenset[str]
    """In lower case; addresses in their shortest form."""
    begins: float
    ends: float
    """Seconds since the epoch."""
    public_key: str
    issuer: str = ""
    """The name of the authority that signed the certificate, in the notation of openssl."""

    @property
    def is_private(self) -> bool:
        """Whether the issuer has the name of a private authority of this collection. The name is not a proof."""
        return f"CN={AUTHORITY}" in self.issuer.replace(" = ", "=")


def check_names(names: t.Iterable[str], variable: str) -> list[str]:
    """Return the names for a certificate in canonical form.

    :param variable: the variable with the names, for errors.
    :raises OllamaError: ``value_invalid``.
    """
    found = []
    for name in names:
        if not _is_address(name) and not _NAME.match(name):
            raise OllamaError(
                "value_invalid",
                f"{variable}: invalid value {name!r}; expected a DNS name or an IP address",
                variable=variable,
            )
        found.append(str(ipaddress.ip_address(name)) if _is_address(name) else name.lower())
    return list(dict.fromkeys(found))


def read(text: str, what: str) -> Certificate:
    """Return the content of a certificate, which is the first one of a chain.

    :param text: PEM.
    :param what: the name of the file or variable, for errors.
    :raises OllamaError: ``certificate_unreadable``.
    """
    try:
        arguments = ("-noout", "-issuer", "-startdate", "-enddate", "-ext", "subjectAltName", "-pubkey")
        shown = _openssl("x509", *arguments, stdin=text)
    except OllamaError as exc:
        raise OllamaError("certificate_unreadable", f"{what}: no certificate in PEM form: {exc.message}") from None
    dates = {key: ssl.cert_time_to_seconds(value) for key, value in re.findall(r"(not\w+)=(.+)", shown)}
    names = re.findall(r"(?:DNS|IP Address):([^,\s]+)", shown)
    return Certificate(
        names=frozenset(str(ipaddress.ip_address(name)) if _is_address(name) else name.lower() for name in names),
        begins=dates["notBefore"],
        ends=dates["notAfter"],
        public_key=_public_key(shown),
        issuer="".join(re.findall(r"^issuer=(.*)", shown, re.MULTILINE)),
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def covers(certificate: Certificate, name: str) -> bool:
    """Return whether the certificate is valid for a name that a client requests. Pure."""
    if name in certificate.names:
        return True
    _host, dot, domain = name.partition(".")
    # OpenSSL accepts no wildcard directly below a top-level domain.
    return bool(dot) and "." in domain and f"*.{domain}" in certificate.names and not _is_address(name)


def judge(certificate: Certificate, key: str, names: t.Sequence[str], what: str, now: float) -> list[str]:
    """Refuse a certificate that clients would not accept; return the warnings.

    :param key: its private key, PEM.
    :param names: the names that clients use.
    :param what: the name of the file or variable, for errors.
    :param now: seconds since the epoch.
    :raises OllamaError: ``certificate_expired``, ``certificate_not_yet_valid``, ``certificate_key_mismatch`` or
        ``certificate_name_mismatch``.
    """
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(certificate.ends))
    if certificate.ends <= now:
        raise OllamaError("certificate_expired", f"{what}: the certificate expired on {when}; renew it first")
    if certificate.begins > now:
        begins = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(certificate.begins))
        raise OllamaError(
            "certificate_not_yet_valid",
            f"{what}: the certificate is not valid before {begins}; check the clock of the host",
        )
    if public_key_of(key, what) != certificate.public_key:
        raise OllamaError("certificate_key_mismatch", f"{what}: the key does not belong to the certificate")
    missing = [name for name in names if not covers(certificate, name)]
    if missing:
        raise OllamaError(
            "certificate_name_mismatch",
            f"{what}: the certificate does not contain {', '.join(missing)}, the name in the URL of the gateway, "
            f"but {', '.join(sorted(certificate.names)) or 'no names'}; see ollama_gateway_url",
        )
    return [f"{what}: the certificate expires on {when}"] if certificate.ends < now + WARN_DAYS * DAY else []


def public_key_of(key: str, what: str) -> str:
    """Return the public key of a private key, PEM.

    :raises OllamaError: ``certificate_key_mismatch``; the message contains no part of the key.
    """
    try:
        return _public_key(_openssl("pkey", "-pubout", "-passin", "pass:", stdin=key))
    except OllamaError:
        raise OllamaError(
            "certificate_key_mismatch", f"{what}: no private key in PEM form without a password"
        ) from None


def _public_key(text: str) -> str:
    return "".join(text[text.index("-----BEGIN PUBLIC KEY-----") :].split("-----END PUBLIC KEY-----")[0].split())


def new_key() -> str:
    """Return a new private key, PEM."""
    return _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def new_authority(key: str, name: str) -> str:
    """Return the certificate of a new private authority, PEM."""
    files = {"key": key, "config": _REQUEST.format(name=name[:64])}
    return _openssl(
        "req", "-x509", "-new", "-sha256", "-key", "{key}", "-config", "{config}", "-days", str(AUTHORITY_DAYS), **files
    )


def judge_authority(authority: str, key: str, what: str, now: float) -> list[str]:
    """Refuse a private authority that can no longer sign; return the warnings.

    :param authority: its certificate, PEM; '' if it is missing.
    :param key: its private key, PEM; '' if it is missing.
    :param what: its directory, for errors.
    :param now: seconds since the epoch.
    :raises OllamaError: ``authority_damaged`` or ``authority_expired``.
    """
    for name, content in (("ca.crt", authority), ("ca.key", key)):
        if not content:
            raise lost(f"{what}/{name} is missing")
    try:
        found = read(authority, f"{what}/ca.crt")
        fits = public_key_of(key, f"{what}/ca.key") == found.public_key
    except OllamaError as exc:
        if exc.code in ("program_missing", "command_failed", "command_timeout"):
            raise
        raise lost(exc.message) from None
    if not fits:
        raise lost(f"{what}/ca.key is not the key of {what}/ca.crt")
    return judge_end(found, what, now)


def judge_end(authority: Certificate, what: str, now: float) -> list[str]:
    """Refuse an authority that has expired; return a warning in its last 180 days.

    :raises OllamaError: ``authority_expired``.
    """
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(authority.ends))
    if authority.ends <= now:
        raise OllamaError(
            "authority_expired", f"{what}: the private authority expired on {when}, {_RENEW}", ends=authority.ends
        )
    if authority.ends < now + RENEW_DAYS * DAY:
        return [f"{what}: the private authority expires on {when}, {_RENEW}"]
    return []


_RENEW = (
    "and clients trust only this one; to replace it, set ollama_gateway_renew_authority: true "
    "and deploy the new ca.crt to all clients"
)


def lost(why: str) -> OllamaError:
    """Return the error of an authority that clients trust and that can no longer sign."""
    return OllamaError("authority_damaged", f"{why}: the private authority is lost; restore it from a backup, {_RENEW}")


def new_request(key: str, name: str) -> str:
    """Return a certificate signing request, PEM. The authority determines the names of the certificate."""
    return _openssl(
        "req", "-new", "-key", "{key}", "-config", "{config}", key=key, config=_REQUEST.format(name=name[:64])
    )


def sign(request: str, names: t.Iterable[str], authority: str, key: str) -> str:
    """Return a certificate for the key of a request and for the names, PEM.

    :raises OllamaError: ``openssl_failed`` if the request is invalid.
    """
    alternatives = ", ".join(("IP:" if _is_address(name) else "DNS:") + name for name in names)
    files = {"ca": authority, "key": key, "extensions": _LEAF.format(names=alternatives)}
    arguments = ["x509", "-req", "-sha256", "-CA", "{ca}", "-CAkey", "{key}", "-extfile", "{extensions}"]
    serial = hex(int.from_bytes(os.urandom(16), "big") >> 1)
    return _openssl(*arguments, "-set_serial", serial, "-days", str(DAYS), stdin=request, **files)


def is_signed_by(certificate: str, authority: str) -> bool:
    """Return whether the key of the authority signed the certificate, and both are valid now."""
    try:
        _openssl("verify", "-x509_strict", "-CAfile", "{ca}", "{certificate}", ca=authority, certificate=certificate)
    except OllamaError:
        return False
    return True


def why_not(certificate: str, key: str, names: t.Sequence[str], authority: str, now: float) -> str | None:
    """Return why a certificate of the private authority must be issued again; None if it need not be."""
    if not certificate or not key:
        return "there is none"
    try:
        found = read(certificate, "certificate")
        judge(found, key, (), "it", now)
    except OllamaError as exc:
        return exc.message
    if sorted(found.names) != sorted(names):
        return f"it is for {', '.join(sorted(found.names))}"
    if found.ends < now + RENEW_DAYS * DAY:
        return "it expires soon"
    if not authority:
        return "no private authority is known here"
    return None if is_signed_by(certificate, authority) else "another authority signed it"


def serves(certificate: str, key: str, authority: str, now: float) -> bool:
    """Return whether clients that trust the authority accept the certificate now, for the names in it."""
    try:
        judge(read(certificate, "certificate"), key, (), "it", now)
    except OllamaError:
        return False
    return is_signed_by(certificate, authority)


def is_key(key: str) -> bool:
    """Return whether the text is a private key in PEM form without a password."""
    try:
        return bool(public_key_of(key, "it"))
    except OllamaError:
        return False


def _openssl(*arguments: str, stdin: str = "", **files: str) -> str:
    """Run openssl. An argument {NAME} is replaced by the path of a temporary file with the content of that parameter.

    :raises OllamaError: ``openssl_failed``, and the errors of `command.run`.
    """
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            with open(os.path.join(directory, name), "w", encoding="utf-8", errors="replace") as file:
                file.write(content)
        places = {name: os.path.join(directory, name) for name in files}
        argv = ["openssl", *(argument.format(**places) for argument in arguments)]
        done = command.run(argv, stdin=stdin.encode("utf-8", "replace").decode(), timeout=60)
    if done.status:
        lines = done.stderr.strip().splitlines() or ["no error message"]
        raise OllamaError("openssl_failed", f"openssl {arguments[0]} failed: {lines[0]}")
    return done.stdout
