# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads: resumed, limited, through proxies, with their space and their checksums."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import Response
from ansible_collections.kaido.ollama.plugins.module_utils._core.progress import DETACH, PROGRESS_FILE
from ansible_collections.kaido.ollama.plugins.module_utils._release import download
from ansible_collections.kaido.ollama.plugins.module_utils._release import release as release_module
from ansible_collections.kaido.ollama.plugins.modules import release

from tests.conftest import ROOT
from tests.unit.modules.release.site import (
    ARCHIVES,
    Host,
    checksum,
    cut,
    ignore_range,
    refuse,
    stall,
    status,
)


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


def test_the_address_follows_upstreams_layout() -> None:
    assert release_module.url_of("http://m/d/", "0.35.1", *release_module.assets("aarch64")) == (
        "http://m/d/v0.35.1/ollama-linux-arm64.tar.zst"
    )
    with pytest.raises(OllamaError, match="riscv64"):
        release_module.assets("riscv64")


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
    for words in ("is a web page, as in a network that requires a login", "ollama_release_archives"):
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


@pytest.mark.parametrize("code", [401, 404, 429, 503])
@pytest.mark.parametrize("login", ["ci-reader:hunter2", "hunter2", "ci:hunter2%2Fx"])
def test_credentials_of_a_site_are_never_shown(host: Host, code: int, login: str) -> None:
    host.site.misbehave = [status(code)] * 9
    result = host.release("0.35.1", base_url=host.site.url.replace("http://", f"http://{login}@"), retries=1)
    assert result["failed"]
    assert "hunter2" not in json.dumps(result)
