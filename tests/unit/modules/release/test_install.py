# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing, switching and removing releases, and what stays unchanged when something fails."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._release import directories, install
from ansible_collections.kaido.ollama.plugins.module_utils._release import release as release_module

from tests.unit.modules.release.site import (
    ARCHIVES,
    Host,
    archive,
    checksum,
    refuse,
)


def test_first_release(host: Host) -> None:
    predicted = host.release("0.35.1", check=True)
    assert host.tree() == {}
    result = host.release("0.35.1")
    assert not result["failed"]
    assert result["changed"]
    assert result["version_before"] is None
    assert result["version"] == "0.35.1" == host.version()
    assert result["bytes_downloaded"] == len(ARCHIVES["0.35.1"])
    for key in ("changed", "version", "version_before", "kept", "removed", "actions", "diff"):
        assert result[key] == predicted[key]
    assert result["diff"]["before"] == {"in_use": None, "kept": []}
    assert os.readlink(host.opt / "current") == "releases/0.35.1"
    assert list((host.opt / "download").iterdir()) == []


def test_a_second_run_changes_nothing_and_sends_no_request(host: Host) -> None:
    host.release("0.35.1")
    before, asked = host.tree(), len(host.site.ranges)
    result = host.release("0.35.1")
    assert not result["changed"]
    assert result["actions"] == []
    assert host.tree() == before
    assert len(host.site.ranges) == asked


def test_upgrade_and_back_without_a_download(host: Host) -> None:
    host.release("0.34.4")
    assert host.release("0.35.1")["version_before"] == "0.34.4"
    assert host.version() == "0.35.1"
    asked = len(host.site.ranges)
    back = host.release("0.34.4")
    assert (back["changed"], back["bytes_downloaded"], host.version()) == (True, 0, "0.34.4")
    assert len(host.site.ranges) == asked


def test_only_so_many_releases_are_kept(host: Host) -> None:
    for version in ("0.34.4", "0.35.0"):
        host.release(version)
    predicted = host.release("0.35.1", check=True)
    result = host.release("0.35.1")
    assert result["removed"] == predicted["removed"] == ["0.34.4"]
    assert result["kept"] == ["0.35.0", "0.35.1"]
    assert sorted(path.name for path in (host.opt / "releases").iterdir()) == ["0.35.0", "0.35.1"]
    assert host.release("0.35.1", keep=1)["removed"] == ["0.35.0"]


def test_the_release_in_use_until_now_is_the_last_to_go(host: Host) -> None:
    for version in ("0.35.1", "0.34.4"):
        host.release(version)
    host.release("0.35.1")
    assert host.release("0.35.0")["kept"] == ["0.35.0", "0.35.1"]


def test_without_activation_a_release_is_only_unpacked(host: Host) -> None:
    host.release("0.34.4")
    result = host.release("0.35.1", activate=False)
    assert (result["changed"], result["version"], host.version()) == (True, "0.34.4", "0.34.4")
    assert not host.release("0.35.1", activate=False)["changed"]
    assert host.release("0.35.1")["bytes_downloaded"] == 0
    assert host.version() == "0.35.1"


def test_a_tampered_archive_leaves_the_old_release(host: Host) -> None:
    data = bytearray(ARCHIVES["0.35.1"])
    data[len(data) // 2] ^= 1
    host.site.files["/v0.35.1/ollama-linux-amd64.tar.zst"] = bytes(data)
    result = refuse(host, "checksum_mismatch")
    assert checksum(bytes(data)) in result["msg"]
    assert checksum(ARCHIVES["0.35.1"]) in result["msg"]
    assert list((host.opt / "download").iterdir()) == []


def test_leftovers_of_killed_runs_go(host: Host) -> None:
    host.release("0.34.4")
    for name in ("releases/.unpack-0.35.1/bin", "releases/.remove-0.33.0/bin"):
        (host.opt / name).mkdir(parents=True)
    (host.opt / "download" / ("sha256-" + "0" * 64 + ".part")).write_bytes(b"old")
    (host.opt / ".current.new").symlink_to("releases/0.33.0")
    (host.bin / ".ollama.new").symlink_to("/nowhere")
    (host.opt / "releases" / "0.35.1").mkdir()
    (host.opt / "releases" / "0.35.1" / "half").write_bytes(b"of it")
    assert not host.release("0.35.1")["failed"]
    assert sorted(path.name for path in (host.opt / "releases").iterdir()) == ["0.34.4", "0.35.1"]
    assert sorted(path.name for path in host.opt.iterdir()) == [".lock", "current", "download", "releases"]
    assert [path.name for path in host.bin.iterdir()] == ["ollama"]
    assert list((host.opt / "download").iterdir()) == []
    assert not (host.opt / "releases" / "0.35.1" / "half").exists()


def test_another_checksum_of_the_same_version_is_another_release(host: Host) -> None:
    host.release("0.35.1")
    again = archive("0.35.1", **{"lib/ollama/new": b"new"})
    host.site.files["/v0.35.1/ollama-linux-amd64.tar.zst"] = again
    result = host.release("0.35.1", checksum=checksum(again))
    assert result["changed"]
    assert (host.opt / "current" / "lib" / "ollama" / "new").exists()
    assert not host.release("0.35.1", checksum=checksum(again))["changed"]


@pytest.mark.parametrize("foreign", ["file", "link"])
def test_a_foreign_program_is_kept(host: Host, foreign: str) -> None:
    if foreign == "file":
        (host.bin / "ollama").write_text("theirs")
    else:
        (host.bin / "ollama").symlink_to("/usr/lib/ollama/ollama")
    before = host.tree()
    result = host.release("0.35.1")
    assert result["failure"]["code"] == "installation_foreign"
    assert host.tree() == before


def test_the_directory_of_the_link_keeps_owner_and_mode(host: Host) -> None:
    host.bin.chmod(0o2775)
    before = host.bin.stat()
    host.release("0.35.1")
    after = host.bin.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_the_state_is_read_under_the_lock(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.release("0.34.4")

    def lock_after_another_run(path: str, **_waiting: object) -> AbstractContextManager[None]:
        monkeypatch.setattr(install, "lock", directories.lock)
        assert host.release("0.35.1")["changed"]
        return directories.lock(path)

    monkeypatch.setattr(install, "lock", lock_after_another_run)
    result = host.release("0.35.1")
    assert (result["changed"], result["bytes_downloaded"], result["actions"]) == (False, 0, [])
    assert (result["version_before"], result["kept"]) == ("0.35.1", ["0.34.4", "0.35.1"])


def test_two_runs_do_not_meet(host: Host) -> None:
    with directories.lock(str(host.opt)):
        assert host.release("0.35.1")["failure"]["code"] == "lock_held"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"version": "v0.35.1"}, "version_invalid"),
        ({"version": "0.35"}, "version_invalid"),
        ({"version": "0.35.1/../x"}, "version_invalid"),
        ({"version": "latest"}, "version_invalid"),
        ({"checksum": "sha256:abc"}, "digest_invalid"),
        ({"checksum": "md5:" + "0" * 64}, "digest_invalid"),
        ({"keep": 0}, "value_invalid"),
        ({"retries": 0}, "value_invalid"),
    ],
)
def test_invalid_options(host: Host, params: dict[str, Any], code: str) -> None:
    result = host.release("0.35.1", **params)
    assert result["failure"]["code"] == code
    assert repr(next(iter(params.values()))) in result["msg"]
    assert host.tree() == {}


def test_versions_are_compared_as_numbers() -> None:
    assert (
        release_module.parse_version("0.9.0")
        < release_module.parse_version("0.10.0-rc1")
        < release_module.parse_version("0.34.3")
    )


# Without a download


def test_a_kept_release_needs_no_checksum(host: Host) -> None:
    host.release("0.34.4")
    host.release("0.35.1")
    back = host.release("0.34.4", checksum=None)
    assert (back["failed"], back["changed"], host.version()) == (False, True, "0.34.4")
    unknown = host.release("0.35.0", checksum=None)
    assert unknown["failure"]["code"] == "checksum_unknown"
    assert "0.34.4" in unknown["msg"]
