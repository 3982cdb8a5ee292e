# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's certificate: made, renewed, taken over, refused; openssl is real, and so is the client that judges."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import command
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._service import authority as authority_module
from ansible_collections.kaido.ollama.plugins.module_utils._service import certificates
from ansible_collections.kaido.ollama.plugins.modules import gateway_certificate as module
from ansible_collections.kaido.ollama.plugins.modules import service_info

from tests.unit.conftest import RunModule

NAMES = ["hecate.lan", "127.0.0.1"]
Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def run(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def call(place: str = "gateway", *, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        return run_module(module, {"directory": str(tmp_path / place), **params}, check=check)

    return call


def code_of(result: dict[str, t.Any]) -> str:
    assert result["failed"]
    assert "PRIVATE KEY" not in str(result)
    return str(result["failure"]["code"])


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    moment = time.time() + days * certificates.DAY
    monkeypatch.setattr(time, "time", lambda: moment)


def test_a_private_authority_is_made_once_and_clients_accept_what_it_signs(run: Run, tmp_path: Path) -> None:
    made = run(names=NAMES)
    assert made["changed"]
    assert made["reason"] == "there is none"
    assert "PRIVATE KEY" not in str(made)
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "gateway").iterdir()}
    assert files == {"ca.crt": 0o644, "ca.key": 0o600, "tls.crt": 0o644, "tls.key": 0o600}
    before = {path.name: path.read_bytes() for path in (tmp_path / "gateway").iterdir()}
    again = run(names=[*reversed(NAMES)])
    assert not again["changed"]
    assert again["authority"] == made["authority"] == (tmp_path / "gateway" / "ca.crt").read_text()
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "gateway").iterdir()}
    for name in NAMES:
        handshake(tmp_path / "gateway", name, made["authority"])
    with pytest.raises(ssl.SSLCertVerificationError, match="ismatch"):
        handshake(tmp_path / "gateway", "other.lan", made["authority"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path / "gateway", NAMES[0], run("other", names=NAMES)["authority"])


def handshake(directory: Path, name: str, authority: str) -> None:
    """Shake hands as the strictest of clients: what Python does by default since 3.13."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    client = ssl.create_default_context(cadata=authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    here, there = socket.socketpair()
    with here, there:

        def serve() -> None:
            try:
                server.wrap_socket(there, server_side=True).close()
            except (ssl.SSLError, OSError):
                there.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            client.wrap_socket(here, server_hostname=name).close()
        finally:
            here.close()
            thread.join(10)


def test_check_mode_predicts_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    assert run(names=NAMES, check=True)["changed"]
    assert not (tmp_path / "gateway").exists()
    run(names=NAMES)
    assert not run(names=NAMES, check=True)["changed"]


def test_another_host_requests_a_certificate_from_the_authority(run: Run, tmp_path: Path) -> None:
    authority = run("first")["authority"]
    asked = run("second", names=NAMES, authority=authority)
    assert asked["changed"]
    assert not (tmp_path / "second" / "tls.crt").exists()
    signed = run("first", sign=asked["request"], names=NAMES)
    assert not signed["changed"]
    assert run("second", names=NAMES, authority=authority, signed=signed["signed"])["changed"]
    quiet = run("second", names=NAMES, authority=authority)
    assert not quiet["changed"]
    assert quiet["request"] == ""
    assert not (tmp_path / "second" / "ca.key").exists()
    handshake(tmp_path / "second", NAMES[0], authority)


def test_a_certificate_is_used_until_the_new_one_is_installed(run: Run, tmp_path: Path) -> None:
    authority = run("first")["authority"]
    signed = run("first", sign=run("second", names=NAMES, authority=authority)["request"], names=NAMES)["signed"]
    run("second", names=NAMES, authority=authority, signed=signed)
    assert run("second", names=[*NAMES, "new.lan"], authority=authority)["request"]
    # Here a run was cut short: the old pair still fits.
    handshake(tmp_path / "second", NAMES[0], authority)


@pytest.mark.parametrize(
    ("days", "changed"), [(certificates.DAYS - certificates.RENEW_DAYS - 1, False), (certificates.DAYS - 179, True)]
)
def test_it_is_renewed_half_a_year_before_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch, days: int, changed: bool
) -> None:
    run(names=NAMES)
    later(monkeypatch, days)
    result = run(names=NAMES)
    assert (result["changed"], result["reason"]) == (changed, "it expires soon" if changed else "")


def test_another_name_makes_a_new_certificate(run: Run, tmp_path: Path) -> None:
    authority = run(names=NAMES)["authority"]
    assert run(names=["other.lan"])["reason"] == "it is for 127.0.0.1, hecate.lan"
    handshake(tmp_path / "gateway", "other.lan", authority)


# An authority that clients trust


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


LOST: dict[str, t.Callable[[Path], t.Any]] = {
    "no key": lambda path: (path / "ca.key").unlink(),
    "no certificate": lambda path: (path / "ca.crt").unlink(),
    "neither": lambda path: [os.unlink(path / name) for name in ("ca.key", "ca.crt")],  # type: ignore[func-returns-value]
    "another key": lambda path: (path / "ca.key").write_text(certificates.new_key()),
    "no key in the file": lambda path: (path / "ca.key").write_text("\xff"),
    "an empty certificate": lambda path: (path / "ca.crt").write_text(""),
    "no certificate in the file": lambda path: (path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n"),
}


@pytest.mark.parametrize("case", LOST)
@pytest.mark.parametrize("names", [NAMES, ["other.lan"], []])
def test_a_damaged_authority_is_replaced_only_on_request(run: Run, tmp_path: Path, case: str, names: list[str]) -> None:
    request = run("second", names=NAMES, create=False)["request"]
    run(names=NAMES)
    LOST[case](tmp_path / "gateway")
    before = content(tmp_path / "gateway")
    reported = run(names=names)
    assert code_of(reported) == "authority_damaged"
    assert "ollama_gateway_renew_authority" in reported["msg"]
    assert "\n" not in reported["msg"]
    assert code_of(run(sign=request, names=NAMES)) in ("authority_damaged", "authority_missing")
    assert content(tmp_path / "gateway") == before
    renewed = run(names=NAMES, renew_authority=True)
    assert renewed["changed"]
    handshake(tmp_path / "gateway", NAMES[0], renewed["authority"])
    for name in ("ca.key", "ca.crt"):
        if before.get(name):
            assert (tmp_path / "gateway" / f"{name}.old").read_bytes() == before[name]
    # The variable may stay where it is.
    assert not run(names=NAMES, renew_authority=True)["changed"]


def test_an_expiring_authority_is_reported_and_an_expired_one_signs_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(names=NAMES)
    request = run("second", names=NAMES, create=False)["request"]
    before = content(tmp_path / "gateway")
    monkeypatch.setattr(certificates, "is_signed_by", lambda *_arguments: True)
    later(monkeypatch, certificates.AUTHORITY_DAYS - 100)
    assert "the private authority expires on" in run()["warnings"][0]
    later(monkeypatch, 101)
    assert code_of(run(names=NAMES)) == "authority_expired"
    assert code_of(run(names=["other.lan"], create=False)) == "authority_expired"
    assert code_of(run(sign=request, names=NAMES)) == "authority_expired"
    assert content(tmp_path / "gateway") == before
    assert run(renew_authority=True)["authority"] != before["ca.crt"].decode()


def test_a_gateway_keeps_the_authority_that_its_clients_trust(run: Run, tmp_path: Path) -> None:
    first, other = run("first")["authority"], run("other")["authority"]
    request = run("second", names=NAMES, authority=first)["request"]
    run("second", names=NAMES, authority=first, signed=run("first", sign=request, names=NAMES)["signed"])
    before = content(tmp_path / "second")
    # Without an authority it is unchanged.
    alone = run("second", names=NAMES, create=False)
    assert (alone["changed"], alone["request"], alone["holds"], alone["serves"]) == (False, "", False, True)
    assert alone["authority"] == first
    assert code_of(run("second", names=NAMES, authority=other)) == "authority_changed"
    assert content(tmp_path / "second") == before
    assert run("second", names=NAMES, authority=other, renew_authority=True)["request"]


def test_a_request_is_the_same_until_it_is_answered(run: Run, tmp_path: Path) -> None:
    authority = run("first")["authority"]
    assert run("second", names=NAMES, create=False)["changed"]
    key = (tmp_path / "second" / "tls.key.pending").read_text()
    again = run("second", names=NAMES, authority=authority)
    assert (tmp_path / "second" / "tls.key.pending").read_text() == key
    assert not run("second", names=NAMES, authority=authority)["changed"]
    signed = run("first", sign=again["request"], names=NAMES)["signed"]
    run("second", names=NAMES, authority=authority, signed=signed)
    assert not (tmp_path / "second" / "tls.key.pending").exists()


@pytest.mark.parametrize("step", range(1, 6))
def test_an_authority_that_was_interrupted_is_completed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    write = authority_module.Directory.write
    count = 0

    def interrupted(self: t.Any, name: str, text: str, mode: int) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise OllamaError("file_unwritable", "no space left")
        write(self, name, text, mode)

    with monkeypatch.context() as patch:
        patch.setattr(authority_module.Directory, "write", interrupted)
        run(names=NAMES)
    shown = (tmp_path / "gateway" / "ca.crt").read_text() if (tmp_path / "gateway" / "ca.crt").exists() else ""
    made = run(names=NAMES)
    assert not made.get("failed"), made
    assert made["authority"] == shown or not shown
    handshake(tmp_path / "gateway", NAMES[0], made["authority"])


def test_what_cannot_be_written_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "gateway").write_text("a file")
    reported = run(names=NAMES)
    assert code_of(reported) == "file_unwritable"
    assert "\n" not in reported["msg"]
    (tmp_path / "other" / "ca.crt").mkdir(parents=True)
    assert code_of(run("other", names=NAMES)) == "certificate_unreadable"


# Certificates of the user's


@pytest.fixture
def own(run: Run, tmp_path: Path) -> dict[str, t.Any]:
    run("own", names=["*.example.lan", "127.0.0.1"])
    return {"certificate": str(tmp_path / "own" / "tls.crt"), "key": str(tmp_path / "own" / "tls.key")}


def test_a_provided_certificate_may_contain_comments(run: Run, own: dict[str, t.Any], tmp_path: Path) -> None:
    chain = Path(own["certificate"])
    chain.write_bytes("# Schl\u00fcssel\n".encode("latin-1") + "# \u0430\n".encode() + chain.read_bytes())
    assert run(names=["hecate.example.lan"], **own)["changed"]
    assert (tmp_path / "gateway" / "tls.crt").read_bytes() == chain.read_bytes()
    assert not run(names=["hecate.example.lan"], **own)["changed"]


def test_a_provided_certificate_is_installed(run: Run, own: dict[str, t.Any], tmp_path: Path) -> None:
    assert run(names=["hecate.example.lan", "and-others"], **own)["changed"]
    assert not run(names=["hecate.example.lan"], **own)["changed"]
    assert (tmp_path / "gateway" / "tls.key").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "gateway" / "ca.crt").exists()
    handshake(tmp_path / "gateway", "hecate.example.lan", (tmp_path / "own" / "ca.crt").read_text())


def test_what_clients_would_refuse_is_refused_before_anything_is_written(
    run: Run, own: dict[str, t.Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("no PEM\n")
    run("another", names=NAMES)
    refused = {
        "certificate_name_mismatch": {**own, "names": ["hecate.example.org"]},
        "certificate_key_mismatch": {
            **own,
            "key": str(tmp_path / "another" / "tls.key"),
            "names": ["hecate.example.lan"],
        },
        "certificate_unreadable": {**own, "certificate": str(broken), "names": ["hecate.example.lan"]},
        "value_invalid": {"certificate": own["certificate"], "names": ["hecate.example.lan"]},
    }
    for code, params in refused.items():
        assert code_of(run(**params)) == code
    assert code_of(run(names=["hecate.example.lan"], **{**own, "key": str(broken)})) == "certificate_key_mismatch"
    assert (
        code_of(run(names=["hecate.example.lan"], **{**own, "key": str(tmp_path / "none")})) == "certificate_unreadable"
    )
    assert code_of(run(names=["no name"])) == "value_invalid"
    assert code_of(run(sign="no PEM", names=NAMES)) == "authority_missing"
    later(monkeypatch, -1)
    assert code_of(run(names=["hecate.example.lan"], **own)) == "certificate_not_yet_valid"
    later(monkeypatch, certificates.DAYS + 2)
    assert code_of(run(names=["hecate.example.lan"], **own)) == "certificate_expired"
    assert not (tmp_path / "gateway").exists()


def test_the_expiry_of_a_provided_certificate_is_reported(
    run: Run, own: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, certificates.DAYS - 20)
    assert "expires on" in run(names=["hecate.example.lan"], **own)["warnings"][0]


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("a.b.lan", True),
        ("c.a.b.lan", False),
        ("b.lan", False),
        ("a.org", False),
        ("x.org", True),
        ("10.0.0.1", True),
        ("9.0.0.1", False),
    ],
)
def test_which_names_a_certificate_is_for(name: str, covered: bool) -> None:
    found = certificates.Certificate(frozenset({"*.b.lan", "*.org", "x.org", "10.0.0.1", "*.0.0.1"}), 0, 0, "")
    assert certificates.covers(found, name) is covered


def test_openssl_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "search_path", lambda: "/nonexistent")
    with pytest.raises(OllamaError) as caught:
        certificates.new_key()
    assert caught.value.code == "program_missing"


def test_service_info_returns_the_result_of_a_call_that_changes_nothing(
    run: Run, run_module: RunModule, tmp_path: Path
) -> None:
    options = {"directory": str(tmp_path / "gateway"), "names": NAMES, "certificate": "", "key": "", "create": True}

    def seen(*, check: bool = False, **changes: t.Any) -> t.Any:
        return run_module(service_info, {"certificate": {**options, **changes}}, check=check)["certificate"]

    assert seen() is None
    assert seen(check=True)["changed"]
    assert not (tmp_path / "gateway").exists()
    run(names=NAMES)
    before = {path: path.stat().st_ctime_ns for path in (tmp_path / "gateway").iterdir()}
    called = {key: value for key, value in run(names=NAMES).items() if key not in ("failed", "invocation")}
    assert called.items() >= {"changed": False, "holds": True, "request": ""}.items()
    assert seen() == seen(check=True) == called
    # What would change, what would fail, and what would be requested of another host.
    assert seen(names=["other.lan"]) is None
    assert seen(names=["*"]) is None
    assert seen(names="{}", renew="x") is None
    assert seen(certificate=str(tmp_path / "none.crt"), key=str(tmp_path / "none.key")) is None
    assert seen(directory=str(tmp_path / "elsewhere"), create=False) is None
    assert seen(certificate="", key="", names=NAMES) == called
    assert before == {path: path.stat().st_ctime_ns for path in (tmp_path / "gateway").iterdir()}
