# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls of the stand-in from registries that stall, close connections, return wrong content and redirect."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import pathlib
import ssl
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests import standin
from tests.conformance.target import Target
from tests.standin.registry import Registry, make_list, make_model

FAST = {"STANDIN_TIME_SCALE": "0.01"}


@pytest.fixture
def registry(tmp_path: pathlib.Path) -> t.Iterator[Registry]:
    with Registry(tmp_path / "registry") as served:
        yield served


@contextlib.contextmanager
def server(version: str = "0.35.1", **env: str) -> t.Iterator[tuple[Target, standin.Running]]:
    with standin.running(version, env={**FAST, **env}) as running:
        yield Target(running.url, pathlib.Path(running.models_dir)), running


def _make(registry: Registry, size: int = 50_000, **more: t.Any) -> tuple[str, str]:
    make_model(registry.store_dir, "model", size, seed=1, **more)
    manifest = json.loads((registry.store_dir / "manifests/registry.ollama.ai/library/model/latest").read_bytes())
    return f"{registry.host}/library/model", manifest["layers"][0]["digest"]


def test_a_broken_connection_resumes_at_the_same_byte(registry: Registry) -> None:
    name, weights = _make(registry)
    registry.misbehave(weights, ranges=True, times=2, cut_after=10_000)
    with server() as (target, _running):
        target.pulled(name)
    ranges = [request.range for request in registry.requests if request.range and weights in request.path]
    assert ranges == ["bytes=0-49999", "bytes=10000-49999", "bytes=20000-49999"]


def test_a_page_instead_of_a_blob_is_tried_six_times(registry: Registry) -> None:
    """The status is ignored: a short page is a premature end, whose bytes do not count."""
    name, weights = _make(registry)
    registry.misbehave(weights, ranges=True, status=403)
    with server() as (target, _running):
        assert target.pull(name)[-1] == {"error": "max retries exceeded: EOF"}
        part = json.loads(target.blob(weights + "-partial-0").read_text())
        assert part["Completed"] == 0
    assert len([r for r in registry.requests if r.range and weights in r.path]) == 6


def test_a_page_as_long_as_the_blob_is_a_digest_mismatch(registry: Registry) -> None:
    name, weights = _make(registry)
    registry.misbehave(weights, ranges=True, status=403, body=b"x" * 50_000)
    with server() as (target, _running):
        assert "digest mismatch" in target.pull(name)[-1]["error"]
        assert not target.has_blob(weights)


def test_a_stalled_part_is_retried_without_limit(registry: Registry) -> None:
    name, weights = _make(registry)
    stall = registry.misbehave(weights, ranges=True, times=8, stall_after=100)
    with server() as (target, running):
        target.pulled(name)
        assert any("stalled; retrying" in line for line in running.log)
    assert stall.times == 0


def test_a_failing_blob_url_ends_after_the_deadline(registry: Registry) -> None:
    name, weights = _make(registry)
    registry.misbehave(weights, method="GET", status=503)
    with server() as (target, running):
        assert target.pull(name)[-1] == {"error": "context deadline exceeded"}
        assert sum("backing off and retrying" in line for line in running.log) > 1


def test_a_redirect_loop_ends(registry: Registry) -> None:
    registry.misbehave("/manifests/", status=302, location="/v2/library/model/manifests/latest")
    with server() as (target, _running):
        assert "stopped after 10 redirects" in target.pull(f"{registry.host}/library/model")[-1]["error"]


def test_a_registry_that_ignores_ranges_corrupts_parts(registry: Registry) -> None:
    name, weights = _make(registry, 100_000_500)
    registry.misbehave(weights, ranges=True, ignore_range=True)
    with server() as (target, _running):
        assert "digest mismatch" in target.pull(name)[-1]["error"]


@pytest.mark.parametrize(
    ("version", "blocked"), [("0.34.1", False), ("0.34.2", True), ("0.34.3", False), ("0.40.2", False)]
)
def test_manifests_on_another_host_when_insecure(registry: Registry, version: str, blocked: bool) -> None:
    name, _weights = _make(registry)
    there = f"http://localhost:{registry.port}/v2/library/model/manifests/latest"
    registry.misbehave("/manifests/", times=1, status=302, location=there)
    with server(version) as (target, _running):
        error = target.pull(name)[-1].get("error", "")
    assert ("blocked redirect to a different host" in error) == blocked


def test_a_private_address_is_no_redirect_target_from_035() -> None:
    from tests.standin import web

    here, there = "https://registry.example.com/x", "https://localhost/x"
    with pytest.raises(web.WebError, match="redirect target not allowed"):
        web.Client("0.35.0").check_target(here, there, insecure=False)
    web.Client("0.35.0").check_target(here, there, insecure=True)
    web.Client("0.34.4").check_target(here, there, insecure=False)


def test_upstream_replaces_the_public_registry(registry: Registry) -> None:
    _make(registry)
    with server(STANDIN_UPSTREAM=f"http://{registry.host}") as (target, _running):
        target.pulled("model")
        assert [row["name"] for row in target.rows("model")] == ["model:latest"]


def test_a_model_can_require_a_newer_server(registry: Registry) -> None:
    name, _weights = _make(registry, config={"requires": "0.50.0"})
    with server("0.40.2") as (target, _running):
        error = target.pull(name)[-1]["error"]
    assert error == "model requires ollama version 0.50.0 or newer (current version is v0.40.2)"
    with server("0.35.1") as (target, _running):
        target.pulled(name)


def test_the_legacy_manifest_keeps_models_for_an_older_server(registry: Registry) -> None:
    for runner in ("ggml", "llamacpp"):
        make_model(registry.store_dir, runner, 4000, seed=len(runner), generation=2)
    make_list(registry.store_dir, "multi", {"ggml": "ggml", "llamacpp": "llamacpp"})
    with server("0.40.2", STANDIN_ANCHOR="1") as (target, _running):
        target.pulled(f"{registry.host}/library/multi")
        anchor = target.store / "manifests" / registry.host / "library/multi/latest"
        kinds = [layer["mediaType"] for layer in json.loads(anchor.read_bytes())["layers"]]
    assert kinds[-2:] == [
        "application/vnd.ollama.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]


@pytest.mark.parametrize(("version", "rows"), [("0.40.0", 2), ("0.40.2", 1)])
def test_rows_of_a_list_in_tags(registry: Registry, version: str, rows: int) -> None:
    for runner in ("ggml", "llamacpp"):
        make_model(registry.store_dir, runner, 4000, seed=len(runner), generation=2)
    make_list(registry.store_dir, "multi", {"ggml": "ggml", "llamacpp": "llamacpp"})
    with server(version) as (target, _running):
        target.pulled(f"{registry.host}/library/ggml")
        target.pulled(f"{registry.host}/library/multi")
        assert len(target.rows("library/multi")) == rows


def test_conversion_replaces_the_tag_by_a_list(registry: Registry) -> None:
    name, _weights = _make(registry)
    with server("0.40.2", STANDIN_MIGRATE="1") as (target, _running):
        target.pulled(name)
        before = target.rows(name)[0]["digest"]
        target.call("POST", "/api/generate", {"model": name})
        after = target.rows(name)[0]
        assert after["digest"] != before
        assert after["details"]["runner"] == "llamacpp"
        found = target.show(name).json()["manifests"]
        assert [(row["digest"], row["runner"]) for row in found] == [
            (f"sha256:{before}", "ggml"), (f"sha256:{after['digest']}", "llamacpp"),
        ]  # fmt: skip


@pytest.fixture
def certificate(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a self-signed certificate for 127.0.0.1 with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(hours=1))
    text = builder.add_extension(address, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    path = tmp_path / "certificate.pem"
    path.write_bytes(text + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_tls_needs_a_known_certificate(tmp_path: pathlib.Path, certificate: pathlib.Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Registry(tmp_path / "registry", tls=context) as served:
        name, _weights = _make(served)
        with server() as (target, _running):
            assert "tls: failed to verify certificate: x509:" in target.pull(name, insecure=False)[-1]["error"]
        with server(SSL_CERT_FILE=str(certificate)) as (target, _running):
            assert target.pull(name, insecure=False)[-1] == {"status": "success"}


def test_modes_follow_the_umask(registry: Registry) -> None:
    name, weights = _make(registry)
    before = os.umask(0o027)
    try:
        with server() as (target, _running):
            target.pulled(name)
            assert target.blob(weights).stat().st_mode & 0o777 == 0o640
            assert target.manifest(registry.host, "library", "model", "latest").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_a_pull_prunes_nothing_if_pruning_is_disabled(registry: Registry) -> None:
    name, weights = _make(registry)
    with server(OLLAMA_NOPRUNE="1") as (target, _running):
        target.pulled(name)
        make_model(registry.store_dir, "model", 50_000, seed=2)
        assert {"status": "removing unused layers"} not in target.pulled(name)
        assert target.has_blob(weights)
