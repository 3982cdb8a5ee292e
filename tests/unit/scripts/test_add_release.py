# SPDX-License-Identifier: GPL-3.0-or-later
"""The tool that adds releases to the table of checksums."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from scripts import add_release

AMD64, ARM64, ROCM = (f"ollama-linux-{name}.tar.zst" for name in ("amd64", "arm64", "amd64-rocm"))
SUMS = {AMD64: "a" * 64, ARM64: "b" * 64, ROCM: "c" * 64}


def sums_text(sums: dict[str, str]) -> str:
    lines = [f"{checksum}  ./{name}" for name, checksum in {**sums, "install.sh": "d" * 64}.items()]
    return "\n".join(lines) + "\n"


def api_text(sums: dict[str, str]) -> str:
    assets = [{"name": name, "digest": f"sha256:{checksum}"} for name, checksum in sums.items()]
    return json.dumps({"assets": [*assets, {"name": "Ollama.dmg", "digest": None}]})


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "checksums.yml"
    path.write_text(add_release.TABLE.read_text())
    monkeypatch.setattr(add_release, "TABLE", path)
    return path


def run(tmp_path: Path, version: str, sums: str, api: str) -> int:
    (tmp_path / "sums").write_text(sums)
    (tmp_path / "api").write_text(api)
    return add_release.main([version, "--sums", str(tmp_path / "sums"), "--api", str(tmp_path / "api")])


def test_release_is_added_in_order(table: Path, tmp_path: Path) -> None:
    before = table.read_text()
    assert run(tmp_path, "0.36.0", sums_text(SUMS), api_text(SUMS)) == 0
    after = table.read_text()
    assert set(before.splitlines()) < set(after.splitlines())
    versions = list(yaml.safe_load(after)["ollama__checksums"])
    assert versions[versions.index("0.36.0") - 1] == "0.35.1"
    assert yaml.safe_load(after)["ollama__checksums"]["0.36.0"] == SUMS
    assert run(tmp_path, "0.36.0", sums_text(SUMS), api_text(SUMS)) == 0
    assert table.read_text() == after


def test_format_of_the_table_is_that_of_the_tool(table: Path, tmp_path: Path) -> None:
    known = yaml.safe_load(table.read_text())["ollama__checksums"]["0.35.1"]
    before = table.read_text()
    assert run(tmp_path, "0.35.1", sums_text(known), api_text(known)) == 0
    assert table.read_text() == before


@pytest.mark.parametrize(
    ("version", "sums", "api", "message"),
    [
        ("v0.36.0", SUMS, SUMS, "invalid version"),
        ("0.36.0", SUMS, {**SUMS, ROCM: "e" * 64}, f"{ROCM}: checksums differ: {'c' * 64} in sha256sum.txt"),
        ("0.36.0", SUMS, {AMD64: "a" * 64, ARM64: "b" * 64}, "None in GitHub's API"),
        ("0.36.0", {AMD64: "a" * 64}, {AMD64: "a" * 64}, f"{ARM64}: not in this release"),
        ("0.36.0", {**SUMS, AMD64: "xyz"}, SUMS, "invalid checksum 'xyz'"),
        ("0.35.1", SUMS, SUMS, "upstream"),
    ],
)
def test_contradictions_change_nothing(
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    version: str,
    sums: dict[str, str],
    api: dict[str, str],
    message: str,
) -> None:
    before = table.read_text()
    assert run(tmp_path, version, sums_text(sums), api_text(api)) == 1
    assert message in capsys.readouterr().err
    assert table.read_text() == before


def test_plain_http_is_refused(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add_release.main(["0.36.0", "--sums", "http://mirror/sha256sum.txt"]) == 1
    assert "https://" in capsys.readouterr().err
