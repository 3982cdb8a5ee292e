# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vendor's script installed."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._release import adoption, install

from tests.unit.modules.release.site import (
    ARCHIVES,
    BASE,
    Host,
    vendor,
)

# What the vendor's script installed


def test_the_vendors_install_becomes_a_kept_release(host: Host) -> None:
    lib = vendor(host)
    inode = (lib / "llama-server").stat().st_ino
    predicted = host.release("0.35.1", check=True)
    assert lib.exists()
    result = host.release("0.35.1")
    assert not result["failed"], result
    for key in ("actions", "kept", "removed", "version_before", "diff"):
        assert result[key] == predicted[key]
    assert result["actions"][1] == f"take over Ollama 0.34.4 in {host.root}"
    assert (result["version_before"], result["kept"], host.version()) == ("0.34.4", ["0.34.4", "0.35.1"], "0.35.1")
    assert not lib.exists()
    kept = host.opt / "releases" / "0.34.4" / "lib" / "ollama"
    assert (kept / "llama-server").stat().st_ino == inode
    assert os.readlink(kept / "libggml-base.so") == "libggml-base.so.0"
    assert host.release("0.35.1")["changed"] is False
    back = host.release("0.34.4", checksum=None)
    assert (back["failed"], back["bytes_downloaded"], host.version()) == (False, 0, "0.34.4")


def test_the_installation_of_the_vendor_is_removed_where_one_release_is_kept(host: Host) -> None:
    lib = vendor(host)
    result = host.release("0.35.1", keep=1)
    assert (result["removed"], result["kept"]) == (["0.34.4"], ["0.35.1"])
    assert not lib.exists()
    assert [path.name for path in (host.opt / "releases").iterdir()] == ["0.35.1"]


def test_the_vendors_copy_of_the_same_version_is_replaced_by_a_verified_one(host: Host) -> None:
    lib = vendor(host, "0.35.1")
    result = host.release("0.35.1")
    assert (result["bytes_downloaded"], result["kept"]) == (len(ARCHIVES["0.35.1"]), ["0.35.1"])
    assert not lib.exists()
    assert (host.opt / "current/lib/ollama/padding").exists()


def test_a_failure_leaves_the_vendors_install(host: Host) -> None:
    lib = vendor(host)
    before = {name: value for name, value in host.tree().items() if not name.startswith("opt")}
    host.site.files[f"/v0.35.1/{BASE}"] = b"tampered"
    assert host.release("0.35.1")["failure"]["code"] == "checksum_mismatch"
    assert {name: value for name, value in host.tree().items() if not name.startswith("opt")} == before
    assert lib.exists()


@pytest.mark.parametrize(
    ("module", "function"), [(install, "switch_link"), (adoption, "remove_libraries")], ids=["link", "libraries"]
)
def test_adoption_continues_after_an_interruption(
    host: Host, monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str
) -> None:
    lib = vendor(host)

    class Killed(BaseException):
        pass

    def kill(*_arguments: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, function, kill)
        with pytest.raises(Killed):
            host.release("0.35.1")
    # The program is usable before and after.
    assert host.version() in ("0.34.4", "0.35.1")
    assert not host.release("0.35.1")["failed"]
    assert (host.version(), lib.exists()) == ("0.35.1", False)
    assert host.release("0.35.1")["kept"] == ["0.34.4", "0.35.1"]


def test_stale_libraries_alone_go_too(host: Host) -> None:
    lib = vendor(host)
    (host.bin / "ollama").unlink()
    host.release("0.35.1")
    assert not lib.exists()


def test_foreign_libraries_are_kept(host: Host) -> None:
    lib = host.root / "lib" / "ollama"
    lib.mkdir(parents=True)
    (lib / "notes.txt").write_text("mine")
    assert not host.release("0.35.1")["failed"]
    assert (lib / "notes.txt").exists()
