# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases: from a real HTTP server onto a real disk, and what stays untouched when something goes wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import Response
from ansible_collections.kaido.ollama.plugins.module_utils._core.progress import DETACH, PROGRESS_FILE
from ansible_collections.kaido.ollama.plugins.module_utils._release import adoption, directories, download, install
from ansible_collections.kaido.ollama.plugins.module_utils._release import release as release_module
from ansible_collections.kaido.ollama.plugins.modules import release

from tests.conftest import ROOT
from tests.lab import engine
from tests.unit.conftest import RunModule

engine.ensure_tools({"zstd": "zstd"})

# Padding that does not compress, so that downloads have a middle to break in.
PADDING = hashlib.shake_256(b"padding").digest(3 << 20)


def program(version: str) -> bytes:
    said = f"Warning: could not connect to a running Ollama instance\nWarning: client version is {version}"
    return f"#!/bin/sh\n[ \"$OLLAMA_HOST\" = 127.0.0.1:1 ] && printf '%s\\n' '{said}'\n".encode()


def tar(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def archive(version: str, **extra: Any) -> bytes:
    whole = {"bin/ollama": program(version), "lib/ollama/llama-server": b"x", "lib/ollama/padding": PADDING}
    return zstd(tar({**whole, **extra}))


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


ARCHIVES = {version: archive(version) for version in ("0.34.4", "0.35.0", "0.35.1")}


def checksum(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    """A release site with configurable faults."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: list[str | None] = field(default_factory=list)
    misbehave: list[Callable[[Any, bytes], bool]] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            it.ranges.append(wanted)
            data = it.files.get(self.path)
            if it.misbehave and it.misbehave.pop(0)(self, data or b""):
                self.close_connection = True
                return
            if data is None:
                self.answer(404, b"no such file")
            elif wanted and int(wanted[6:-1]) >= len(data):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            elif wanted:
                start = int(wanted[6:-1])
                self.answer(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})
            else:
                self.answer(200, data)

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, claim: int = 0) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(claim or len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    it = Site(f"http://127.0.0.1:{server.server_address[1]}")
    for version, data in ARCHIVES.items():
        it.files[f"/v{version}/ollama-linux-amd64.tar.zst"] = data
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield it
    server.shutdown()
    server.server_close()


def cut(at: int) -> Callable[[Any, bytes], bool]:
    """Answer with the beginning only, though all of it was announced."""

    def misbehave(handler: Any, data: bytes) -> bool:
        handler.answer(200, data[:at], claim=len(data))
        return True

    return misbehave


def status(code: int) -> Callable[[Any, bytes], bool]:
    def misbehave(handler: Any, _data: bytes) -> bool:
        handler.answer(code, b"sorry")
        return True

    return misbehave


def stall(at: int) -> Callable[[Any, bytes], bool]:
    def misbehave(handler: Any, data: bytes) -> bool:
        handler.answer(200, data[:at], claim=len(data))
        handler.rfile.read()  # until the client hangs up
        return True

    return misbehave


def ignore_range(handler: Any, data: bytes) -> bool:
    handler.answer(200, data)
    return True


@dataclass
class Host:
    """A host's two directories, and the module on them."""

    root: Path
    site: Site
    run_module: RunModule

    @property
    def opt(self) -> Path:
        return self.root / "opt" / "ollama"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    def release(self, version: str, /, *, check: bool = False, **params: Any) -> dict[str, Any]:
        defaults = {
            "version": version,
            "checksum": checksum(ARCHIVES.get(version, b"")),
            "base_url": self.site.url,
            "install_dir": str(self.opt),
            "bin_dir": str(self.bin),
        }
        return self.run_module(release, {**defaults, **params}, check=check, diff=True)

    def tree(self) -> dict[str, str]:
        """Everything below the host's root, with links' targets and files' checksums."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}"
            elif path.is_file() and path.name != ".lock":
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def version(self) -> str:
        """The version that the program of users reports."""
        done = subprocess.run(
            [self.bin / "ollama"], env={"OLLAMA_HOST": "127.0.0.1:1"}, capture_output=True, check=True
        )
        return done.stdout.decode().split()[-1]


@pytest.fixture
def host(tmp_path: Path, site: Site, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(download, "sleep", lambda _seconds: None)
    (tmp_path / "bin").mkdir()
    return Host(tmp_path, site, run_module)


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


def refuse(host: Host, code: str, **params: Any) -> dict[str, Any]:
    """Fail with a code, leaving all but the beginning of a download as it was."""
    host.release("0.34.4")
    before = host.tree()
    result = host.release("0.35.1", **params)
    assert result["failed"]
    assert result["failure"]["code"] == code
    assert "\n" not in result["msg"]
    assert {name: value for name, value in host.tree().items() if "/download/" not in name} == before
    assert host.version() == "0.34.4"
    return result


def test_a_tampered_archive_leaves_the_old_release(host: Host) -> None:
    data = bytearray(ARCHIVES["0.35.1"])
    data[len(data) // 2] ^= 1
    host.site.files["/v0.35.1/ollama-linux-amd64.tar.zst"] = bytes(data)
    result = refuse(host, "checksum_mismatch")
    assert checksum(bytes(data)) in result["msg"]
    assert checksum(ARCHIVES["0.35.1"]) in result["msg"]
    assert list((host.opt / "download").iterdir()) == []


def test_a_missing_release(host: Host) -> None:
    del host.site.files["/v0.35.1/ollama-linux-amd64.tar.zst"]
    assert "404" in refuse(host, "release_missing")["msg"]


def test_a_site_that_does_not_answer(host: Host) -> None:
    text = refuse(host, "server_unreachable", base_url="http://127.0.0.1:1", retries=2)["msg"]
    for option in ("ollama_release_base_url", "ollama_release_proxy", "ollama_release_archives", "kaido.ollama.import"):
        assert option in text


def test_only_a_download(host: Host, tmp_path: Path) -> None:
    name = "ollama-linux-amd64.tar.zst"
    folder = tmp_path / "stage"
    folder.mkdir()
    result = host.release("0.35.1", download_dir=str(folder))
    assert (result["failed"], result["bytes_downloaded"]) == (False, len(ARCHIVES["0.35.1"]))
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == ARCHIVES["0.35.1"]
    assert not host.opt.exists()


def test_a_download_from_a_directory_of_the_host(host: Host, tmp_path: Path) -> None:
    name = "ollama-linux-amd64.tar.zst"
    source, folder = tmp_path / "site" / "v0.35.1" / name, tmp_path / "stage"
    for path in (source.parent, folder):
        path.mkdir(parents=True)
    source.write_bytes(ARCHIVES["0.35.1"])
    host.release("0.35.1", download_dir=str(folder), base_url=f"file://{tmp_path}/site")
    assert (folder / name).read_bytes() == source.read_bytes() == ARCHIVES["0.35.1"]


def test_a_stalled_download_is_resumed_by_the_next_run(host: Host) -> None:
    host.site.misbehave = [lambda *_: False, stall(1 << 20)]
    refuse(host, "connection_stalled", timeout=0.3, retries=1)
    asked = len(host.site.ranges)
    result = host.release("0.35.1")
    assert not result["failed"]
    begun = int(host.site.ranges[asked][6:-1])  # type: ignore[index]
    assert begun > 0
    assert result["bytes_downloaded"] == len(ARCHIVES["0.35.1"]) - begun
    assert host.version() == "0.35.1"


def test_an_interrupted_download_is_resumed(host: Host) -> None:
    host.site.misbehave = [cut(1 << 20), status(503)]
    result = host.release("0.35.1")
    assert not result["failed"]
    assert host.site.ranges == [None, f"bytes={1 << 20}-", f"bytes={1 << 20}-"]
    assert result["bytes_downloaded"] == len(ARCHIVES["0.35.1"])


def test_a_site_without_ranges_starts_over(host: Host) -> None:
    host.site.misbehave = [cut(1 << 20), ignore_range]
    assert not host.release("0.35.1")["failed"]
    assert host.version() == "0.35.1"


def test_attempts_without_progress_are_counted(host: Host) -> None:
    host.site.misbehave = [lambda *_: False, *[status(503)] * 9]
    result = refuse(host, "server_error", retries=3)
    assert "stopped after 3 attempts" in result["msg"]
    assert len(host.site.ranges) == 1 + 3


@pytest.mark.parametrize("rubbish", [b"x" * 1000, b"x" * (8 << 20)], ids=["shorter", "longer"])
def test_the_beginning_of_another_file_costs_only_time(host: Host, rubbish: bytes) -> None:
    part = host.opt / "download" / (checksum(ARCHIVES["0.35.1"]).replace(":", "-") + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(rubbish)
    assert not host.release("0.35.1")["failed"]
    assert host.version() == "0.35.1"


def test_an_existing_archive_needs_no_release_site(host: Host) -> None:
    part = host.opt / "download" / (checksum(ARCHIVES["0.35.1"]).replace(":", "-") + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(ARCHIVES["0.35.1"])
    result = host.release("0.35.1", base_url="http://127.0.0.1:1")
    assert (result["failed"], result["bytes_downloaded"]) == (False, 0)


def test_too_little_space_is_reported_before_downloading(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.release("0.34.4")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: Usage(free=1 << 20))
    result = refuse(host, "disk_full")
    assert "1.0 MB are free" in result["msg"]
    assert list((host.opt / "download").iterdir()) == []


@dataclass
class Usage:
    free: int


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


def serve(host: Host, data: bytes) -> dict[str, Any]:
    host.site.files["/v0.35.1/ollama-linux-amd64.tar.zst"] = data
    return {"checksum": checksum(data)}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (zstd(tar({"bin/ollama": program("0.35.1")})), "release_incomplete"),
        (zstd(tar({"lib/ollama/llama-server": b"x"})), "release_incomplete"),
        (archive("0.35.1", **{"bin/ollama": b"#!/bin/sh\nexit 1\n"}), "release_incomplete"),
        (archive("0.35.1", **{"bin/ollama": b"\x7fELF nonsense"}), "release_incomplete"),
        (archive("0.35.0"), "version_mismatch"),
        (b"no archive", "archive_invalid"),
        (archive("0.35.1")[:-1000], "archive_invalid"),
        (zstd(b"no tar" * 1000), "archive_invalid"),
        (archive("0.35.1", **{"/etc/x": b"x"}), "archive_invalid"),
        (archive("0.35.1", **{"../x": b"x"}), "archive_invalid"),
        (archive("0.35.1", **{"lib/../../x": b"x"}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "../../x")}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "/etc/passwd")}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "."), "lib/x/y": b"x"}), "archive_invalid"),
        (archive("0.35.1", **{"a": link("a", "."), "b": link("b", "a/../..")}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "/etc/passwd", tarfile.LNKTYPE)}), "archive_invalid"),
        (archive("0.35.1", **{"lib/x": link("lib/x", "lib/none", tarfile.LNKTYPE)}), "archive_invalid"),
        (archive("0.35.1", **{"dev": link("dev", "", tarfile.CHRTYPE)}), "archive_invalid"),
        (archive("0.35.1", **{"pipe": link("pipe", "", tarfile.FIFOTYPE)}), "archive_invalid"),
    ],
)
def test_an_invalid_archive_with_the_correct_checksum(host: Host, data: bytes, code: str) -> None:
    refuse(host, code, **serve(host, data))
    assert list((host.opt / "download").iterdir()) == []


def test_links_inside_are_fine_and_modes_are_plain(host: Host) -> None:
    odd = tarfile.TarInfo("lib/ollama/odd")
    odd.mode, odd.uid = 0o6755, 1234
    members: dict[str, bytes | tarfile.TarInfo] = {
        "lib/ollama/libx.so": link("lib/ollama/libx.so", "padding"),
        "lib/ollama/hard": link("lib/ollama/hard", "lib/ollama/padding", tarfile.LNKTYPE),
        "lib/ollama/odd": odd,
    }
    before = os.umask(0o077)
    try:
        result = host.release("0.35.1", **serve(host, archive("0.35.1", **members)))
    finally:
        os.umask(before)
    assert not result["failed"]
    lib = host.opt / "current" / "lib" / "ollama"
    assert (lib / "libx.so").read_bytes() == (lib / "hard").read_bytes() == PADDING
    assert (lib / "odd").stat().st_mode & 0o7777 == 0o755
    assert (lib / "odd").stat().st_uid == os.getuid()
    assert {path.stat().st_mode & 0o777 for path in (host.opt, host.opt / "releases", lib)} == {0o755}


@pytest.mark.parametrize(
    ("version", "missing"), [("0.33.3", "lib/ollama/llama-quantize"), ("0.34.0", None), ("0.24.0", None)]
)
def test_completeness_depends_on_the_version(tmp_path: Path, version: str, missing: str | None) -> None:
    for name, content in {"bin/ollama": program(version), "lib/ollama/llama-server": b"x"}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    if version == "0.24.0":
        (tmp_path / "lib/ollama/llama-server").unlink()
    if missing is None:
        install.check_complete(str(tmp_path), version)
        return
    with pytest.raises(OllamaError) as caught:
        install.check_complete(str(tmp_path), version)
    assert caught.value.details["missing"] == missing


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


def test_a_download_is_left_to_a_job_with_progress(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "default_state_dir", lambda: str(tmp_path / "state"))
    monkeypatch.setenv(DETACH, "1")
    first = host.release("0.35.1")
    assert (first["pending"], first["changed"]) == (True, False)
    assert not (host.opt / "releases" / "0.35.1").exists()
    monkeypatch.delenv(DETACH)
    monkeypatch.setenv(PROGRESS_FILE, first["progress_file"])
    assert host.release("0.35.1")["bytes_downloaded"] > 0
    state = json.loads(Path(first["progress_file"]).read_text())
    assert state["finished"]
    [row] = state["models"].values()
    assert row["completed"] == row["total"] > 0
    monkeypatch.setenv(DETACH, "1")
    assert "pending" not in host.release("0.35.1"), "nothing is left to download"


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


def test_the_address_follows_upstreams_layout() -> None:
    assert release_module.url_of("http://m/d/", "0.35.1", *release_module.assets("aarch64")) == (
        "http://m/d/v0.35.1/ollama-linux-arm64.tar.zst"
    )
    with pytest.raises(OllamaError, match="riscv64"):
        release_module.assets("riscv64")


def test_versions_are_compared_as_numbers() -> None:
    assert (
        release_module.parse_version("0.9.0")
        < release_module.parse_version("0.10.0-rc1")
        < release_module.parse_version("0.34.3")
    )


def test_the_table_of_checksums() -> None:
    role = ROOT / "roles" / "ollama"
    table = yaml.safe_load((role / "vars" / "checksums.yml").read_text())["ollama__checksums"]
    default = yaml.safe_load((role / "defaults" / "main.yml").read_text())["ollama_version"]
    assert list(table) == sorted(table, key=release_module.parse_version)
    assert {*release_module.assets("x86_64"), *release_module.assets("aarch64")} <= set(table[default])
    known = [found for assets in table.values() for found in assets.values()]
    assert len(known) > 50
    assert len(set(known)) == len(known)
    for found in known:
        assert release_module.parse_checksum(found) == f"sha256:{found}"


# Variants


ROCM = "ollama-linux-amd64-rocm.tar.zst"
BASE = "ollama-linux-amd64.tar.zst"


def overlay(host: Host, members: dict[str, bytes | tarfile.TarInfo]) -> dict[str, Any]:
    """Publish an archive that lies over 0.35.1; returns the parameters that ask for it."""
    data = zstd(tar(members))
    host.site.files[f"/v0.35.1/{ROCM}"] = data
    return {
        "variants": ["rocm"],
        "checksum": None,
        "checksums": {BASE: checksum(ARCHIVES["0.35.1"]), ROCM: checksum(data)},
    }


def test_a_variant_is_unpacked_over_the_base(host: Host) -> None:
    params = overlay(host, {"lib/ollama/rocm_v7_2/libggml-hip.so": b"hip", "lib/ollama/padding": b"newer"})
    result = host.release("0.35.1", **params)
    assert not result["failed"], result
    lib = host.opt / "current" / "lib" / "ollama"
    assert (lib / "rocm_v7_2" / "libggml-hip.so").read_bytes() == b"hip"
    assert (lib / "padding").read_bytes() == b"newer"
    assert (lib / "llama-server").exists()
    assert list((host.opt / "download").iterdir()) == []
    assert not host.release("0.35.1", **params)["changed"]


def test_a_variant_that_is_added_downloads_only_itself(host: Host) -> None:
    host.release("0.35.1")
    inode = (host.opt / "current/lib/ollama/padding").stat().st_ino
    params = overlay(host, {"lib/ollama/rocm_v7_2/libggml-hip.so": b"hip", "lib/ollama/llama-server": b"other"})
    asked = len(host.site.ranges)
    result = host.release("0.35.1", **params)
    assert (result["failed"], len(host.site.ranges)) == (False, asked + 1)
    assert result["bytes_downloaded"] == len(host.site.files[f"/v0.35.1/{ROCM}"])
    assert (host.opt / "current/lib/ollama/padding").stat().st_ino == inode
    assert (host.opt / "current/lib/ollama/llama-server").read_bytes() == b"other"
    assert (host.opt / "current/lib/ollama/rocm_v7_2/libggml-hip.so").exists()


def test_a_removed_variant_is_uninstalled(host: Host) -> None:
    host.release("0.35.1", **overlay(host, {"lib/ollama/rocm_v7_2/libggml-hip.so": b"hip"}))
    assert host.release("0.35.1")["changed"]
    assert not (host.opt / "current/lib/ollama/rocm_v7_2").exists()


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"lib/ollama/x/y": b"", "lib/ollama/x": b""}, "archive_invalid"),
        ({"lib/ollama/out": link("lib/ollama/out", "../../../x")}, "archive_invalid"),
        ({"lib/ollama/libx.so/inside": b""}, "archive_invalid"),
    ],
)
def test_an_invalid_variant_leaves_the_release_without_it(
    host: Host, members: dict[str, bytes | tarfile.TarInfo], code: str
) -> None:
    base = archive("0.35.1", **{"lib/ollama/libx.so": link("lib/ollama/libx.so", "padding")})
    host.release("0.35.1", **serve(host, base))
    before = host.tree()
    params = overlay(host, members)
    result = host.release("0.35.1", **{**params, "checksums": {**params["checksums"], BASE: checksum(base)}})
    assert result["failure"]["code"] == code
    assert host.tree() == before


def test_each_archive_needs_its_checksum(host: Host) -> None:
    result = host.release("0.35.1", variants=["rocm"])
    assert result["failure"]["code"] == "checksum_unknown"
    assert ROCM in result["msg"]
    assert host.tree() == {}
    params = overlay(host, {"lib/ollama/rocm_v7_2/libggml-hip.so": b"hip"})
    host.site.files[f"/v0.35.1/{ROCM}"] = b"tampered"
    assert host.release("0.35.1", **params)["failure"]["code"] == "checksum_mismatch"
    assert not (host.bin / "ollama").exists()


def test_variants_belong_to_an_architecture() -> None:
    assert release_module.assets("aarch64", ["jetpack6"])[1] == "ollama-linux-arm64-jetpack6.tar.zst"
    with pytest.raises(OllamaError, match="invalid value 'rocm' for arm64; expected jetpack5, jetpack6"):
        release_module.assets("aarch64", ["rocm"])


# Without a download


def test_a_kept_release_needs_no_checksum(host: Host) -> None:
    host.release("0.34.4")
    host.release("0.35.1")
    back = host.release("0.34.4", checksum=None)
    assert (back["failed"], back["changed"], host.version()) == (False, True, "0.34.4")
    unknown = host.release("0.35.0", checksum=None)
    assert unknown["failure"]["code"] == "checksum_unknown"
    assert "0.34.4" in unknown["msg"]


def test_an_archive_on_the_host_is_used_in_place(host: Host) -> None:
    there = host.root / "mnt" / "v0.35.1" / BASE
    there.parent.mkdir(parents=True)
    there.write_bytes(ARCHIVES["0.35.1"])
    result = host.release("0.35.1", base_url=f"file://{host.root}/mnt")
    assert (result["failed"], result["bytes_downloaded"], host.version()) == (False, 0, "0.35.1")
    assert there.read_bytes() == ARCHIVES["0.35.1"]
    assert host.site.ranges == []


@pytest.mark.parametrize(("content", "code"), [(None, "release_missing"), (b"other", "checksum_mismatch")])
def test_an_invalid_archive_on_the_host(host: Host, content: bytes | None, code: str) -> None:
    there = host.root / "mnt" / "v0.35.1" / BASE
    there.parent.mkdir(parents=True)
    if content is not None:
        there.write_bytes(content)
    refuse(host, code, base_url=f"file://{host.root}/mnt")
    assert there.exists() == (content is not None)


def test_through_a_proxy(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "")
    # A proxy gets the complete address.
    host.site.files["http://releases.lan/v0.35.1/ollama-linux-amd64.tar.zst"] = ARCHIVES["0.35.1"]
    proxy = host.site.url.replace("http://", "http://me:hunter2@")
    result = host.release("0.35.1", base_url="http://releases.lan", proxy=proxy)
    assert (result["failed"], host.version()) == (False, "0.35.1")
    assert "hunter2" not in json.dumps(result)
    assert proxy not in json.dumps(result)


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"HTTP_PROXY": "PROXY"}, None),
        ({"HTTP_PROXY": "PROXY", "NO_PROXY": "other.lan"}, None),
        ({"HTTP_PROXY": "PROXY", "NO_PROXY": ".lan"}, "server_unreachable"),
        ({"HTTPS_PROXY": "PROXY"}, "server_unreachable"),
        ({}, "server_unreachable"),
        ({"HTTP_PROXY": "socks5://proxy.lan"}, "url_invalid"),
        ({"HTTP_PROXY": "http://[::1"}, "url_invalid"),
        ({"OLLAMA_HOST": "x"}, "value_invalid"),
    ],
)
def test_the_proxy_of_the_server(
    host: Host, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], code: str | None
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(socket, "getaddrinfo", _only_addresses(socket.getaddrinfo))
    host.site.files["http://releases.lan/v0.35.1/ollama-linux-amd64.tar.zst"] = ARCHIVES["0.35.1"]
    proxy = host.site.url.replace("http://", "http://me:hunter2@")
    given = {name: value.replace("PROXY", proxy) for name, value in environment.items()}
    result = host.release("0.35.1", base_url="http://releases.lan", environment=given, retries=1)
    assert result.get("failure", {}).get("code") == code
    assert "hunter2" not in json.dumps(result)
    if code == "server_unreachable" or "socks5" in str(environment):
        assert "ollama_release_proxy" in result["msg"]


def _only_addresses(resolve: Callable[..., Any]) -> Callable[..., Any]:
    def resolved(name: str, *arguments: Any, **options: Any) -> Any:
        if name.endswith(".lan"):
            raise socket.gaierror("name unknown")
        return resolve(name, *arguments, **options)

    return resolved


def test_a_web_page_in_place_of_the_archive(host: Host) -> None:
    def page(handler: Any, _data: bytes) -> bool:
        handler.answer(200, b"<html>Log in</html>", {"Content-Type": "text/html"})
        return True

    host.site.misbehave.append(page)
    result = host.release("0.35.1")
    assert (result["failure"]["code"], list((host.opt / "download").iterdir())) == ("response_invalid", [])
    message = result["msg"]
    for words in ("is a web page, as of a network that requires a login", "ollama_release_archives"):
        assert words in message


@pytest.mark.parametrize(
    ("url", "answer", "code"),
    [
        ("http://releases.lan", None, "checksum_insecure"),
        ("file:///mnt", None, "checksum_insecure"),
        ("https://releases.lan", (404, b""), "release_missing"),
        ("https://releases.lan", (200, b"<html>sorry</html>"), "response_invalid"),
        ("https://releases.lan", (200, b"sorry"), "digest_invalid"),
        ("https://releases.lan", (200, b"%s  ./x\n%s *y\n" % (b"ab" * 32, b"cd" * 32)), None),
    ],
)
def test_checksums_of_the_site_itself(
    monkeypatch: pytest.MonkeyPatch, url: str, answer: tuple[int, bytes] | None, code: str | None
) -> None:
    def request(_method: str, asked: str, **_options: Any) -> Response:
        assert answer
        assert asked == f"{url}/v0.35.1/sha256sum.txt"
        kind = "text/html" if b"<html>" in answer[1] else "text/plain"
        return Response(asked, answer[0], {"content-type": kind}, answer[1])

    monkeypatch.setattr(download, "request", request)
    if code is None:
        found = download.fetch_checksums(url, "0.35.1")
        assert found == {"x": "sha256:" + "ab" * 32, "y": "sha256:" + "cd" * 32}
        return
    with pytest.raises(OllamaError) as caught:
        download.fetch_checksums(url, "0.35.1")
    assert caught.value.code == code


# What the vendor's script installed


def vendor(host: Host, version: str = "0.34.4") -> Path:
    """Lay out what install.sh leaves; returns the directory of its libraries."""
    (host.bin / "ollama").write_bytes(program(version))
    (host.bin / "ollama").chmod(0o755)
    lib = host.root / "lib" / "ollama"
    (lib / "cuda_v12").mkdir(parents=True)
    (lib / "llama-server").write_bytes(b"vendor's")
    (lib / "libggml-base.so").symlink_to("libggml-base.so.0")
    return lib


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


# SELinux


def test_files_get_the_types_of_the_policy(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "restorecon").write_text(f'#!/bin/sh\necho "$@" >>{tools}/said\n')
    (tools / "restorecon").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    host.release("0.34.4")
    assert not (tools / "said").exists()
    (tmp_path / "enforce").write_text("1")
    monkeypatch.setattr(directories, "SELINUX", str(tmp_path / "enforce"))
    host.release("0.35.1")
    assert (tools / "said").read_text() == f"-RF {host.opt}/releases/0.35.1\n"


@pytest.mark.parametrize("code", [401, 404, 429, 503])
@pytest.mark.parametrize("login", ["ci-reader:hunter2", "hunter2", "ci:hunter2%2Fx"])
def test_credentials_of_a_site_are_never_shown(host: Host, code: int, login: str) -> None:
    host.site.misbehave = [status(code)] * 9
    result = host.release("0.35.1", base_url=host.site.url.replace("http://", f"http://{login}@"), retries=1)
    assert result["failed"]
    assert "hunter2" not in json.dumps(result)
