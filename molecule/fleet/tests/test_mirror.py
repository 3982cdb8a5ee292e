# SPDX-License-Identifier: GPL-3.0-or-later
"""What crossed the Internet, what the mirror sent, and what it does not send. As the user of the fleet sees it."""

from __future__ import annotations

import collections
import hashlib
import json
import typing as t

import pytest
from conftest import LAB, address, get_host

BIG = json.loads((LAB / "registry/manifests/registry.ollama.ai/kaido/big/q4").read_bytes())
LAYER = BIG["layers"][0]
BLOB = f"/v2/kaido/big/blobs/{LAYER['digest']}"
MIRROR = "http://127.0.0.1:11480"
LIST = "application/vnd.ollama.manifest.list.v2+json"


@pytest.fixture(scope="module")
def host() -> t.Any:
    return get_host("hecate")


def sent(lines: t.Iterable[str]) -> dict[str, list[int]]:
    """Bytes of the big layer by client, in nginx's own words: in ranges, and otherwise."""
    total: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for line in lines:
        _time, client, _method, address, status, count, *_range = line.split()
        if address == BLOB:
            total[client][status != "206"] += int(count)
    return total


def answer(host: t.Any, path: str, *options: str) -> str:
    """Status and headers, as lines in lower case."""
    return str(
        host.check_output(f"curl -sS -D - -o /dev/null --path-as-is {' '.join(options)} '{MIRROR}{path}'")
    ).lower()


def test_upstream_sent_one_model_and_the_mirror_the_rest(host: t.Any) -> None:
    upstream = sent((LAB / "logs/registry.log").read_text().splitlines())
    assert list(upstream) == [address(host)]
    mirror = sent(host.check_output("journalctl --identifier ollama_mirror --output cat").splitlines())
    mirror.pop("127.0.0.1", None)  # these tests
    assert len(mirror) == 3
    for ranged, probed in [*upstream.values(), *mirror.values()]:
        assert ranged == LAYER["size"]
        # Ollama hangs up on its probe; until then nginx has sent what fits into the sockets' buffers.
        assert probed < 6_000_000


def test_a_blob_response_has_the_form_that_ollama_requires(host: t.Any) -> None:
    head = answer(host, BLOB, "-I")
    assert "200 ok" in head
    assert f"content-length: {LAYER['size']}" in head
    assert f"location: {BLOB}" in head
    assert "cache-control: public, max-age=31536000, immutable" in head
    part = host.check_output(f"curl -sS -r 1000-1999 '{MIRROR}{BLOB}' | sha256sum").split()[0]
    blob = (LAB / "registry/blobs" / LAYER["digest"].replace(":", "-")).read_bytes()
    assert part == hashlib.sha256(blob[1000:2000]).hexdigest()
    assert "206 partial" in answer(host, BLOB, "-r 0-9")


def test_manifests_are_not_cached(host: t.Any) -> None:
    head = answer(host, "/v2/kaido/big/manifests/q4")
    assert "200 ok" in head
    assert "cache-control: no-store" in head


@pytest.mark.parametrize("accept", ["application/vnd.docker.distribution.manifest.v2+json", LIST])
def test_each_generation_of_clients_gets_what_it_can_read(host: t.Any, accept: str) -> None:
    """hecate's store is of the old kind; for a moment it also has a tag of the new kind, and a child as a blob."""
    store = "/usr/share/ollama/.ollama/models"
    child = hashlib.sha256(b"child").hexdigest()
    new = f"{store}/manifests-v2/ollama.com/kaido/big"
    host.check_output(
        f"sudo -u ollama sh -ec 'mkdir -p {new}; printf child >{store}/blobs/sha256-{child};"
        f" ln -s ../../../../blobs/sha256-{child} {new}/q4'"
    )
    try:
        text = host.check_output(f"curl -sS -H 'Accept: {accept}' {MIRROR}/v2/kaido/big/manifests/q4")
        assert (text == "child") == (accept == LIST)
        for tag in (f"sha256:{child}", f"sha256-{child}"):
            assert host.check_output(f"curl -sS {MIRROR}/v2/kaido/big/manifests/{tag}") == "child"
    finally:
        host.check_output(f"rm -r {store}/manifests-v2 {store}/blobs/sha256-{child}")


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/", "", 404),
        ("/v2/", "", 404),
        ("/v2/_catalog", "", 404),
        ("/v2/kaido/big/tags/list", "", 404),
        ("/blobs/", "", 404),
        ("/v2/kaido/big/blobs/", "", 404),
        (BLOB + "-partial", "", 404),
        (BLOB.replace("sha256:", "sha256-"), "", 404),
        ("/v2/../blobs/" + LAYER["digest"].replace(":", "-"), "", 404),
        ("/v2/kaido/big/manifests/..%2f..%2f..%2f..%2fblobs", "", 404),
        ("/v2/kaido/big/blobs/../../../../../../../etc/passwd", "", 400),
        ("/v2/kaido/secret/manifests/link", "", 404),
        (BLOB, "-X POST -d x", 405),
        (BLOB, "-X DELETE", 405),
        (BLOB, "-X PUT -d x", 405),
    ],
)
def test_nothing_else_is_answered(host: t.Any, path: str, options: str, status: int) -> None:
    folder = "/usr/share/ollama/.ollama/models/manifests/registry.ollama.ai/kaido/secret"
    host.check_output(f"sudo -u ollama mkdir -p {folder} && sudo -u ollama ln -sf /etc/passwd {folder}/link")
    try:
        assert f" {status} " in answer(host, path, options).splitlines()[0]
    finally:
        host.check_output(f"rm -r {folder}")


def test_it_is_confined(host: t.Any) -> None:
    pid = host.service("ollama-mirror").systemd_properties["MainPID"]
    status = dict(line.split(":\t") for line in host.check_output(f"grep -P ':\\t' /proc/{pid}/status").splitlines())
    assert status["CapBnd"] == status["CapEff"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    assert host.user("ollama-mirror").groups == ["ollama-mirror"]
    assert host.check_output("getent group ollama").split(":")[2] in status["Groups"].split()
    # With all its rights: it reads the store, writes nothing there, and reads nothing else of the server's.
    account = "setpriv --reuid ollama-mirror --regid ollama-mirror --groups ollama"
    store = "/usr/share/ollama/.ollama/models/blobs"
    assert host.run(f"{account} head -c1 {store}/{LAYER['digest'].replace(':', '-')}").rc == 0
    assert host.run(f"{account} touch {store}/x").rc != 0
    assert host.run(f"{account} cat /etc/ollama/ollama.env").rc != 0
    exposure = host.check_output("systemd-analyze security --no-pager ollama-mirror.service | tail -1")
    assert float(exposure.split("service: ")[1].split()[0]) <= 1.5


def test_the_distributions_web_server_is_off(host: t.Any) -> None:
    assert not host.service("nginx").is_running
    assert not host.service("nginx").is_enabled
    assert host.service("ollama-mirror").is_enabled
    assert not host.socket("tcp://0.0.0.0:80").is_listening
