# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls from an intact and from a faulty registry."""

from __future__ import annotations

import concurrent.futures
import json
import typing as t

import pytest

from tests.standin import until
from tests.standin.registry import Registry, Request, make_list, make_model

from .target import Target, sha256

SIZE = 4000


def _weights(registry: Registry, model: str = "model") -> str:
    manifest = json.loads((registry.store_dir / f"manifests/registry.ollama.ai/library/{model}/latest").read_bytes())
    return str(manifest["layers"][0]["digest"])


def _make(registry: Registry, size: int | None = SIZE, **more: t.Any) -> tuple[str, str]:
    """Return the name to pull and the digest of its weights, which no earlier run has left in the store."""
    make_model(registry.store_dir, "model", size, seed=registry.port, **more)
    return f"{registry.host}/library/model", _weights(registry)


def _ranges(registry: Registry, weights: str) -> list[Request]:
    return [request for request in registry.requests if weights in request.path and request.range]


def test_requests_of_a_fresh_pull(target: Target, registry: Registry) -> None:
    name, weights = _make(registry)
    target.pulled(name)
    manifest = registry.requests[0]
    assert (manifest.method, manifest.path) == ("GET", "/v2/library/model/manifests/latest")
    accepted = manifest.headers["Accept"]
    assert "application/vnd.docker.distribution.manifest.v2+json" in accepted
    assert ("application/vnd.ollama.manifest.list.v2+json" in accepted) == (target.generation == 2)
    assert manifest.headers["User-Agent"].startswith("ollama/")
    asked = [(request.method, request.range) for request in registry.requests if weights in request.path]
    assert asked == [("HEAD", ""), ("GET", ""), ("GET", f"bytes=0-{SIZE - 1}")]
    parts = [request for request in registry.requests if request.range]
    assert all(request.headers["User-Agent"].startswith("Go-http-client/") for request in parts)


def test_a_cached_pull_requests_only_the_manifest(target: Target, registry: Registry) -> None:
    name, _weights = _make(registry)
    target.pulled(name)
    registry.requests.clear()
    lines = target.pulled(name)
    assert [request.path for request in registry.requests] == ["/v2/library/model/manifests/latest"]
    layers = [line for line in lines if "digest" in line]
    assert all(line["total"] == line["completed"] for line in layers)


def test_layers_come_in_order_and_the_config_last(target: Target, registry: Registry) -> None:
    name, _weights = _make(registry, layers={"license": b"Free.", "system": b"Be kind."})
    target.pulled(name)
    path = registry.store_dir / "manifests/registry.ollama.ai/library/model/latest"
    manifest = json.loads(path.read_bytes())
    wanted = [layer["digest"] for layer in [*manifest["layers"], manifest["config"]]]
    assert [line["digest"] for line in target.pulled(name) if "digest" in line] == wanted


def test_zeros_are_omitted(target: Target, registry: Registry) -> None:
    name, _weights = _make(registry, layers={"license": b""})
    target.pulled(name)
    empty = [line for line in target.pulled(name) if line.get("digest") == sha256(b"")]
    assert empty == [{"status": "pulling e3b0c44298fc", "digest": sha256(b"")}]


def test_progress_grows_to_the_total(target: Target, registry: Registry) -> None:
    size = 400_000
    name, weights = _make(registry, size)
    registry.misbehave(weights, method="GET", ranges=True, rate=600_000)
    lines = [line for line in target.pulled(name) if line.get("digest") == weights]
    assert len(lines) > 3
    assert {line["total"] for line in lines} == {size}
    seen = [line.get("completed", 0) for line in lines]
    assert seen == sorted(seen)


def test_a_large_blob_is_fetched_in_parts(target: Target, registry: Registry) -> None:
    size = 100_500_000
    name, weights = _make(registry, size)
    target.pulled(name)
    parts = {request.range for request in registry.requests if weights in request.path and request.range}
    assert parts == {"bytes=0-99999999", f"bytes=100000000-{size - 1}"}


def test_two_pulls_share_one_download(target: Target, registry: Registry) -> None:
    name, weights = _make(registry, 300_000)
    registry.misbehave(weights, method="GET", ranges=True, rate=500_000)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        both = list(pool.map(target.pulled, [name, name]))
    assert [lines[-1] for lines in both] == [{"status": "success"}] * 2
    assert len([request for request in registry.requests if weights in request.path and request.range]) == 1


def test_an_interrupted_pull_resumes(target: Target, registry: Registry) -> None:
    size = 2_000_000
    name, weights = _make(registry, size)
    slow = registry.misbehave(weights, method="GET", ranges=True, rate=1_000_000)
    connection = target.connect()
    connection.request("POST", "/api/pull", json.dumps({"model": name, "insecure": True}))
    response = connection.getresponse()
    for line in response:
        if json.loads(line).get("completed", 0) > 200_000:
            break
    assert response.fp
    response.close()
    connection.close()
    until(lambda: _ranges(registry, weights)[0].over, "the server has hung up")
    slow.rate = 0.0
    # While it is still being cancelled, the next pull of the blob ends with that.
    until(lambda: target.pull(name)[-1] != {"error": "context canceled"})
    ranges = [request.range for request in _ranges(registry, weights)]
    assert len(ranges) == 2
    assert int(ranges[1].removeprefix("bytes=").split("-")[0]) >= 65_536
    assert target.has_blob(weights)


@pytest.mark.usefixtures("needs_store")
def test_an_interrupted_pull_leaves_part_files(target: Target, registry: Registry) -> None:
    size = 2_000_000
    name, weights = _make(registry, size)
    registry.misbehave(weights, method="GET", ranges=True, rate=1_000_000)
    connection = target.connect()
    connection.request("POST", "/api/pull", json.dumps({"model": name, "insecure": True}))
    response = connection.getresponse()
    for line in response:
        if json.loads(line).get("completed", 0) > 200_000:
            break
    response.close()
    connection.close()
    until(lambda: _ranges(registry, weights)[0].over, "the server has hung up")
    partial = target.blob(weights + "-partial")
    assert partial.stat().st_size == size
    part = until(lambda: (found := json.loads(target.blob(weights + "-partial-0").read_text()))["Completed"] and found)
    assert part == {"N": 0, "Offset": 0, "Size": size, "Completed": part["Completed"]}
    assert 0 < part["Completed"] < size
    assert not target.has_blob(weights)
    registry.behave()
    target.pulled(name)
    assert not partial.exists()
    assert not target.blob(weights + "-partial-0").exists()


def test_wrong_bytes_are_detected_and_removed(target: Target, registry: Registry) -> None:
    name, weights = _make(registry)
    fault = registry.misbehave(weights, ranges=True, corrupt=True)
    lines = target.pull(name)
    assert fault.times < -1
    error = lines[-1]["error"]
    assert error.startswith(f"digest mismatch, file must be downloaded again: want {weights}, got sha256:")
    assert not target.has_blob(weights)
    assert not target.rows(registry.host)


def test_after_a_failed_pull_other_damaged_blobs_are_accepted(target: Target, registry: Registry) -> None:
    """A defect of Ollama: only the first damaged blob is removed, so the next pull succeeds with a broken model."""
    text = f"The second layer that came wrong, at port {registry.port}."
    name, weights = _make(registry, None, layers={"license": text.encode()})
    manifest = json.loads((registry.store_dir / "manifests/registry.ollama.ai/library/model/latest").read_bytes())
    second = manifest["layers"][2]["digest"]
    registry.misbehave(weights, ranges=True, corrupt=True)
    registry.misbehave(second, ranges=True, corrupt=True)
    assert "digest mismatch" in target.pull(name)[-1]["error"]
    assert not target.has_blob(weights)
    assert target.has_blob(second)
    registry.behave()
    target.pulled(name)
    assert target.show(name).json()["license"] != text


def test_a_blob_without_location_is_not_fetched(target: Target, registry: Registry) -> None:
    name, weights = _make(registry)
    registry.misbehave(weights, location="")
    assert target.pull(name)[-1] == {"error": "http: no Location header in response"}


def test_a_redirect_other_than_307_is_refused(target: Target, registry: Registry) -> None:
    name, weights = _make(registry)
    elsewhere = f"http://localhost:{registry.port}/v2/library/model/blobs/{weights}"
    registry.misbehave(weights, method="GET", ranges=False, status=302, location=elsewhere)
    assert target.pull(name)[-1] == {"error": "unexpected status code 302"}


def test_a_307_to_another_host_is_followed_when_insecure(target: Target, registry: Registry) -> None:
    if not registry.host.startswith("127.0.0.1:"):
        pytest.skip("needs a registry with two names: only loopback has one more, localhost")
    name, weights = _make(registry)
    elsewhere = f"http://localhost:{registry.port}/v2/library/model/blobs/{weights}"
    registry.misbehave(weights, method="GET", ranges=False, status=307, location=elsewhere, body=b"")
    target.pulled(name)
    hosts = [request.headers["Host"] for request in registry.requests if request.range and weights in request.path]
    assert hosts == [f"localhost:{registry.port}"]


def test_a_redirect_on_the_same_host_is_followed(target: Target, registry: Registry) -> None:
    name, weights = _make(registry)
    elsewhere = f"/v2/library/model/blobs/{weights}?again"
    registry.misbehave(weights, method="GET", ranges=False, times=1, status=302, location=elsewhere, body=b"")
    target.pulled(name)


def test_the_error_of_a_registry_is_returned(target: Target, registry: Registry) -> None:
    registry.misbehave("/manifests/", status=500, body=b"oops")
    lines = target.pull(f"{registry.host}/library/model")
    assert lines == [{"status": "pulling manifest"}, {"error": "pull model manifest: 500: oops"}]


def test_a_registry_that_requires_a_newer_server_is_reported(target: Target, registry: Registry) -> None:
    text = b"The model you are attempting to pull requires a newer version of Ollama."
    registry.misbehave("/manifests/", status=412, body=text)
    reply = target.call(
        "POST", "/api/pull", {"model": f"{registry.host}/library/model", "insecure": True, "stream": False}
    )
    assert (reply.status, reply.error) == (500, f"pull model manifest: 412: {text.decode()}")


def test_a_missing_blob_is_an_error(target: Target, registry: Registry) -> None:
    name, weights = _make(registry)
    (registry.store_dir / "blobs" / weights.replace(":", "-")).unlink()
    assert "error" in target.pull(name)[-1]
    assert not target.rows(registry.host)


# -- manifest lists, from 0.40 -------------------------------------------------------------------------------------


@pytest.fixture
def listed(target: Target, registry: Registry) -> str:
    if target.generation == 1:
        pytest.skip("manifest lists came with 0.40")
    for runner, seed in (("ggml", 1), ("llamacpp", 2)):
        make_model(registry.store_dir, runner, seed=registry.port * 10 + seed, generation=2)
    make_list(registry.store_dir, "multi", {"ggml": "ggml", "llamacpp": "llamacpp"})
    return f"{registry.host}/library/multi"


def _manifest_digest(registry: Registry, model: str) -> str:
    return sha256((registry.store_dir / f"manifests-v2/ollama.com/library/{model}/latest").read_bytes())


def test_a_list_resolves_to_the_variant_of_this_host(target: Target, registry: Registry, listed: str) -> None:
    target.pulled(listed)
    rows = target.rows(registry.host)
    assert ["sha256:" + row["digest"] for row in rows] == [_manifest_digest(registry, "llamacpp")]
    assert rows[0]["details"]["runner"] == "llamacpp"


def test_the_children_of_a_list_are_fetched_as_blobs(target: Target, registry: Registry, listed: str) -> None:
    target.pulled(listed)
    child = _manifest_digest(registry, "llamacpp")
    assert registry.requests[0].path == "/v2/library/multi/manifests/latest"
    asked = [(request.method, request.range) for request in registry.requests if request.path.endswith(child)]
    size = len((registry.store_dir / "blobs" / child.replace(":", "-")).read_bytes())
    assert asked == [("HEAD", ""), ("GET", ""), ("GET", f"bytes=0-{size - 1}")]
    assert not any(_manifest_digest(registry, "ggml") in request.path for request in registry.requests)
    assert target.has_blob(child)
    assert not target.has_blob(_manifest_digest(registry, "ggml"))


def test_blobs_of_a_child_are_fetched_in_ranges_of_any_size(target: Target, registry: Registry, listed: str) -> None:
    target.pulled(listed)
    child = json.loads((registry.store_dir / "manifests-v2/ollama.com/library/llamacpp/latest").read_bytes())
    for blob in (child["config"], *child["layers"]):
        asked = [(r.method, r.range) for r in registry.requests if r.path.endswith(blob["digest"])]
        assert not asked or asked == [("HEAD", ""), ("GET", ""), ("GET", f"bytes=0-{blob['size'] - 1}")]
    assert any(r.path.endswith(child["layers"][0]["digest"]) for r in registry.requests)


def test_show_lists_the_variants_of_its_first_call(target: Target, registry: Registry, listed: str) -> None:
    target.pulled(f"{registry.host}/library/ggml")
    target.pulled(listed)
    shown = target.show(listed).json()
    assert shown["manifests"] == [
        {"digest": _manifest_digest(registry, "ggml"), "runner": "ggml", "format": "gguf"},
        {"digest": _manifest_digest(registry, "llamacpp"), "runner": "llamacpp", "format": "gguf", "selected": True},
    ]
    assert shown["details"]["runner"] == "llamacpp"


def test_show_does_not_list_later_variants(target: Target, registry: Registry, listed: str) -> None:
    """The answer is cached by the digest of the manifest."""
    target.pulled(listed)
    assert "manifests" not in target.show(listed).json()
    target.pulled(f"{registry.host}/library/ggml")
    assert "manifests" not in target.show(listed).json()


@pytest.mark.usefixtures("needs_store")
def test_the_tag_of_a_list_is_a_link_to_the_list(target: Target, registry: Registry, listed: str) -> None:
    target.pulled(listed)
    path = target.manifest(registry.host, "library", "multi", "latest")
    assert path.is_symlink()
    assert path.resolve().name == _manifest_digest(registry, "multi").replace(":", "-")
