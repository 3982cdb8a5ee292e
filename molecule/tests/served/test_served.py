# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of every converge, observed over SSH as ops with sudo, and compared with the files of the depot.

For scenarios that declare all models of their depot.
"""

from __future__ import annotations

import hashlib
import json
import socket
import typing as t

import pytest
from conftest import LAB

MANIFESTS = LAB / "registry/manifests/registry.ollama.ai"
STORE = "/usr/share/ollama/.ollama/models"
# NAMESPACE/MODEL/TAG -> the manifest's bytes
MODELS = {str(path.relative_to(MANIFESTS)): path.read_bytes() for path in MANIFESTS.glob("*/*/*")}


def get(host: t.Any, path: str) -> t.Any:
    return json.loads(host.check_output("curl --silent --fail http://127.0.0.1:11434%s", path))


def test_the_wanted_version_answers(host: t.Any) -> None:
    assert get(host, "/api/version") == {"version": "0.35.1"}
    assert host.file("/usr/local/bin/ollama").linked_to == "/opt/ollama/releases/0.35.1/bin/ollama"


def test_the_service_is_enabled_and_running(host: t.Any) -> None:
    service = host.service("ollama")
    assert service.is_enabled
    shown = service.systemd_properties
    assert (shown["ActiveState"], shown["SubState"], shown["NRestarts"]) == ("active", "running", "0")
    assert shown["User"] == "ollama"
    assert host.check_output("systemctl is-system-running") == "running"


def test_the_server_listens_on_loopback_only(host: t.Any) -> None:
    listening = [line.split()[3] for line in host.check_output("ss -H -ltn").splitlines()]
    assert [address for address in listening if address.endswith(":11434")] == ["127.0.0.1:11434"]
    address = host.ansible.get_variables()["ansible_host"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, 11434), timeout=5).close()


def test_models_match_the_registry(host: t.Any) -> None:
    """The digest in the API is that of the manifest in the depot."""
    served = {row["name"]: row["digest"] for row in get(host, "/api/tags")["models"]}
    assert len(MODELS) >= 2
    for path, raw in MODELS.items():
        name = ":".join(path.removeprefix("library/").rsplit("/", 1))
        assert served[name] == hashlib.sha256(raw).hexdigest()


def test_every_blob_matches_its_name(host: t.Any) -> None:
    """Compared by sha256sum, which shares no code with the modules."""
    lines = host.check_output(f"cd {STORE}/blobs && sha256sum -- *").splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    assert sums == {name: name.removeprefix("sha256-") for name in sums}
    manifests = [json.loads(raw) for raw in MODELS.values()]
    needed = {layer["digest"].replace(":", "-") for m in manifests for layer in (m["config"], *m["layers"])}
    assert set(sums) == needed


@pytest.mark.parametrize(
    ("path", "user", "mode"),
    [
        ("/etc/ollama/ollama.env", "root", 0o600),
        ("/etc/systemd/system/ollama.service", "root", 0o644),
        ("/opt/ollama/releases/0.35.1/bin/ollama", "root", 0o755),
    ],
)
def test_files_have_the_right_owner(host: t.Any, path: str, user: str, mode: int) -> None:
    file = host.file(path)
    assert (file.user, file.mode) == (user, mode)


def test_only_the_server_writes_into_its_store(host: t.Any) -> None:
    store = host.file(STORE)
    assert (store.user, store.group, store.mode & 0o022) == ("ollama", "ollama", 0)


def test_the_unit_is_confined_and_lets_gpus_through(host: t.Any) -> None:
    """systemd's own score: 0 is fully confined, 10 is not confined, the unit of Ollama's install script has 9.2."""
    verdict = host.check_output("systemd-analyze security --no-pager ollama.service").splitlines()[-1]
    assert float(verdict.split(": ")[1].split()[0]) <= 1.5, verdict
    shown = host.check_output("systemctl show --property DevicePolicy --property DeviceAllow ollama").splitlines()
    assert {
        "DevicePolicy=closed",
        "DeviceAllow=char-nvidia* rw",
        "DeviceAllow=char-drm rw",
        "DeviceAllow=char-kfd rw",
    } < set(shown)
