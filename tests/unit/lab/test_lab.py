# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of the lab: validation, files for SSH and Ansible, and the URLs of the depot."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import string
import subprocess
import tarfile
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from docker.errors import APIError, ImageNotFound

from tests.lab import PROJECT, LabError, demo, engine, images, lab, registry
from tests.lab.__main__ import parser
from tests.lab.access import Endpoint
from tests.lab.lab import Lab, Wanted
from tests.lab.systems import SYSTEMS

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted({}), "at least one host"),
        (Wanted({"Hecate": "debian12"}), "'Hecate'"),
        (Wanted({"depot": "debian12"}), "'depot' is taken"),
        (Wanted({}, machines={"depot": "selinux"}), "'depot' is taken"),
        (Wanted({}, machines={"hecate": "tomoyo"}), "expected apparmor, selinux, arm64"),
        (Wanted({}, machines={"hecate": "apparmor", "dev1": "arm64"}), "hosts are amd64 and arm64: expected a single"),
        (Wanted({"hecate": "debian12"}, machines={"hecate": "apparmor"}), "two hosts are named 'hecate'"),
        (Wanted({"hecate": "ubuntu"}), "expected debian12, debian13"),
        (Wanted({"hecate": "debian12"}, versions=("1.2",)), "'1.2'"),
        (Wanted({"hecate": "debian12"}, models={"../x:y": "1M"}), "'../x:y'"),
        (Wanted({"hecate": "debian12"}, models={"x:y": "1T"}), "'1T'"),
    ],
)
def test_invalid_input_is_named(wanted: Wanted, words: str) -> None:
    with pytest.raises(LabError) as caught:
        lab.check(wanted)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a-", "../x", "A", "a" * 41])
def test_invalid_lab_name(name: str) -> None:
    with pytest.raises(LabError, match="the lab's name"):
        Lab(name)


def test_valid_input() -> None:
    lab.check(Wanted({"hecate": "debian12", "dev1": "debian13"}, ("0.40.0-rc1",), {"kaido/m1:q4": "5M", "m2:1b": "7"}))
    assert [registry.bytes_of(size) for size in ("7", "2K", "5M", "1G")] == [7, 2048, 5 * 2**20, 2**30]


def test_command_line() -> None:
    arguments = parser().parse_args(["up", "x", "--host", "hecate=debian12", "--model", "kaido/m1:q4=5M"])
    assert (arguments.host, arguments.model) == ([("hecate", "debian12")], [("kaido/m1:q4", "5M")])
    with pytest.raises(SystemExit):
        parser().parse_args(["up", "x", "--host", "hecate"])


def test_host_files_belong_to_their_reader() -> None:
    data = lab.archive({"home/ops/.ssh/authorized_keys": (b"k", 0o600, 1000), "etc/ssh/key": (b"s", 0o600, 0)})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        seen = {entry.name: (entry.uid, entry.mode) for entry in tar}
    assert seen == {
        "home/ops/.ssh": (1000, 0o700),
        "home/ops/.ssh/authorized_keys": (1000, 0o600),
        "etc/ssh/key": (0, 0o600),
    }


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="openssh-client is not installed; the lab installs it")
def test_inventory_and_ssh_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "CACHE", tmp_path / "with space")
    one = Lab("one")
    one.dir.mkdir(parents=True)
    hosts = {"hecate": Endpoint("172.30.0.2"), "vm": Endpoint("127.86.16.1", 4097)}
    one.access.write_ssh_config(hosts)
    one.access.write_inventory(hosts, {"lab_release_checksums": {"0.35.1": f"sha256:{HEX}"}})

    group = yaml.safe_load((one.inventory / "hosts.yml").read_text())["ollama_servers"]
    assert group["hosts"] == {"hecate": {"ansible_host": "172.30.0.2"}, "vm": {"ansible_host": "127.86.16.1"}}
    assert group["vars"]["lab_release_checksums"] == {"0.35.1": f"sha256:{HEX}"}
    assert group["vars"]["ollama_mirrors"] == ["http://depot:11480"]

    # As OpenSSH itself reads it, by name and by the address that Ansible uses.
    for target, host in (("hecate", "hecate"), ("172.30.0.2", "hecate"), ("vm", "vm"), ("127.86.16.1", "vm")):
        command = ["ssh", "-F", str(one.ssh_config), "-G", target]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        read = dict(line.split(" ", 1) for line in out.splitlines() if " " in line)
        assert (read["hostname"], int(read["port"])) == hosts[host]
        assert read["user"] == "ops"
        assert read["stricthostkeychecking"] == "true"
        assert read["hostkeyalias"] == host
    known = (one.dir / "ssh" / "known_hosts").read_text()
    assert known.startswith("hecate ssh-ed25519 ")
    key = one.access.key("id_ed25519")
    assert key.stat().st_mode & 0o777 == 0o600
    assert group["vars"]["ansible_ssh_private_key_file"] == str(key)


@pytest.mark.parametrize(
    ("address", "file"),
    [
        (f"/v2/library/tiny/blobs/sha256:{HEX}", f"/blobs/sha256-{HEX}"),
        (f"/v2/kaido/tiny2/manifests/sha256:{HEX}", f"/blobs/sha256-{HEX}"),
        (f"/v2/kaido/tiny2/manifests/sha256-{HEX}", f"/blobs/sha256-{HEX}"),
        ("/v2/kaido/tiny2/manifests/q8", "/manifests-v2/ollama.com/kaido/tiny2/q8"),
        (f"/v2/library/tiny/blobs/sha256:{HEX[:-1]}", None),
        ("/v2/library/tiny/blobs/sha256:../../etc/passwd", None),
        ("/v2/a/b/c/manifests/latest", None),
    ],
)
def test_depot_addresses(address: str, file: str | None) -> None:
    """Return the file of the first matching location, in the order of nginx."""
    text = re.sub(r"\{(\d[\d,]*)\}", r"<\1>", images.registry_conf().replace("(?<", "(?P<"))
    locations = re.findall(r'location ~ "(.+)" \{[^}]*?try_files (\S+)', text)
    assert len(locations) == 3
    for pattern, target in locations:
        if found := re.search(re.sub(r"<(\d[\d,]*)>", r"{\1}", pattern), address):
            values = {**found.groupdict(), "first_tree": "manifests-v2/ollama.com"}
            assert string.Template(target).substitute(values) == file
            return
    assert file is None


def test_images_are_built_again_when_their_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.source_hash("debian12")
    assert before != images.source_hash("debian13")
    for name in images.RECIPE:
        shutil.copy(images.HERE / name, tmp_path)
    monkeypatch.setattr(images, "HERE", tmp_path)
    assert images.source_hash("debian12") == before
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    assert images.source_hash("debian12") != before


@pytest.fixture
def no_mmdebstrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Return a client of an engine without images, on a machine where mmdebstrap fails."""
    monkeypatch.setattr(engine, "CACHE", tmp_path)
    monkeypatch.setattr(engine, "STATE", tmp_path / "engine.json")
    monkeypatch.setattr(images, "bootstrap", Mock(side_effect=LabError("mmdebstrap failed for debian12: no network")))
    monkeypatch.setattr(engine, "ensure_tools", Mock())
    client = Mock()
    client.images.get.side_effect = ImageNotFound("none")
    client.images.list.return_value = []
    return client


def test_the_official_image_is_used_where_mmdebstrap_fails(no_mmdebstrap: Mock) -> None:
    assert images.ensure_base(no_mmdebstrap, "debian12") == "debian:12"
    no_mmdebstrap.images.pull.assert_called_once_with("debian", tag="12")
    assert engine.read_state() == {"pulled": ["debian:12"]}


def test_a_local_image_is_not_pulled(no_mmdebstrap: Mock) -> None:
    no_mmdebstrap.images.list.return_value = [Mock(tags=["almalinux:9", "mine:1"])]
    assert images.ensure_base(no_mmdebstrap, "alma9") == "almalinux:9"
    no_mmdebstrap.images.pull.assert_not_called()
    # What the lab did not pull, `clean` does not remove.
    assert engine.read_state() == {}


def test_systems_without_mmdebstrap_need_a_registry(no_mmdebstrap: Mock) -> None:
    assert images.ensure_base(no_mmdebstrap, "rhel9") == "registry.access.redhat.com/ubi9/ubi:latest"
    no_mmdebstrap.images.pull.assert_called_once_with("registry.access.redhat.com/ubi9/ubi", tag="latest")
    engine.ensure_tools.assert_not_called()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["debian12", "rocky9"])
def test_no_source_of_a_base_image(no_mmdebstrap: Mock, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    no_mmdebstrap.images.pull.side_effect = APIError("dial tcp:\n no route to host")
    with pytest.raises(LabError) as caught:
        images.ensure_base(no_mmdebstrap, name)
    message = str(caught.value)
    assert message.startswith(f"there is no base image for {name}: ")
    assert f"{SYSTEMS[name].image} cannot be pulled: dial tcp: no route to host. It needs" in message
    assert "\n" not in message
    assert ("mmdebstrap failed" in message) == ("mmdebstrap failed" in capsys.readouterr().out) == (name == "debian12")


def test_other_checkouts_are_not_changed(tmp_path: Path) -> None:
    assert lab.ours(str(PROJECT))
    assert lab.ours(str(tmp_path / "deleted"))
    assert not lab.ours(str(tmp_path))


def test_a_lab_of_another_checkout_is_replaced_only_if_it_does_not_run(tmp_path: Path) -> None:
    mine = Mock(labels={lab.ROOT_LABEL: str(PROJECT)}, status="exited")
    other = Mock(labels={lab.ROOT_LABEL: str(tmp_path)}, status="exited")
    deleted = Mock(labels={lab.ROOT_LABEL: str(tmp_path / "deleted")}, status="running")
    some_lab = Lab("x")
    some_lab._client = Mock()
    some_lab._client.containers.list.return_value = [mine, other, deleted]
    assert some_lab._containers() == [mine]
    assert [len(container.remove.mock_calls) for container in (mine, other, deleted)] == [0, 1, 1]
    other.status = "running"
    with pytest.raises(LabError, match=f"belongs to the checkout {tmp_path}: use another lab name"):
        some_lab._containers()
    assert len(other.remove.mock_calls) == 1


def test_the_demo_pins_the_depots_models(tmp_path: Path) -> None:
    registry.fill(tmp_path, {})
    manifests = tmp_path / "manifests/registry.ollama.ai"
    digests = {
        "tiny:latest": hashlib.sha256((manifests / "library/tiny/latest").read_bytes()).hexdigest(),
        "kaido/tiny2:q8": hashlib.sha256((manifests / "kaido/tiny2/q8").read_bytes()).hexdigest(),
    }
    hosts = yaml.safe_load(demo.MODELS.read_text())["ollama_servers"]["hosts"]
    pinned = [(row["name"], row["digest"]) for host in hosts.values() for row in host["ollama_models"]]
    assert pinned
    assert all(digest == f"sha256:{digests[name]}" for name, digest in pinned)
