# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of root: one way to read, list, replace and digest them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import fs


def test_what_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing", tmp_path / "file" / "below"):
        assert fs.read_text(str(path)) is None
        assert fs.readable_text(str(path)) == ""
        assert fs.list_directory(str(path)) == []
        assert fs.read_link(str(path)) is None
        assert fs.read_link(str(tmp_path / "file")) == ""


def test_what_exists(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"text\xff")
    (tmp_path / "a").symlink_to("b")
    assert fs.read_text(str(tmp_path / "b")) == "text\N{REPLACEMENT CHARACTER}"
    assert fs.list_directory(str(tmp_path)) == ["a", "b"]
    assert fs.read_link(str(tmp_path / "a")) == "b"


def test_an_unreadable_file_is_an_error_only_where_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        fs.read_text(str(tmp_path))
    assert fs.readable_text(str(tmp_path)) == ""


@pytest.mark.parametrize("content", ["text", b"\xff\0"])
@pytest.mark.parametrize("sync", [False, True])
def test_write_replaces_a_file_and_its_mode(tmp_path: Path, content: str | bytes, sync: bool) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    path.chmod(0o666)
    with path.open() as reader:
        fs.write_atomic(str(path), content, 0o640, sync=sync)
        assert reader.read() == "before"
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_write_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to("target")
    fs.write_atomic(str(tmp_path / "link"), "new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "kept"


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        fs.write_atomic(str(tmp_path / "file"), "text")
    assert os.listdir(tmp_path) == ["file"]


def test_remove_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_text("")
    (tmp_path / "link").symlink_to("directory")
    fs.remove(str(tmp_path / "link"))
    assert sorted(os.listdir(tmp_path)) == ["directory"]
    fs.remove(str(tmp_path / "directory"))
    fs.remove(str(tmp_path / "directory"))
    assert os.listdir(tmp_path) == []


def test_sha256_is_of_the_complete_file(tmp_path: Path) -> None:
    content = b"x" * (fs.CHUNK + 1)
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("rb") as file:
        file.seek(5)
        assert fs.sha256(file) == f"sha256:{hashlib.sha256(content).hexdigest()}"
