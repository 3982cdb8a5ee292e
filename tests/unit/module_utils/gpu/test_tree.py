# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, programs and accounts of a host."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import tree


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_programs_run_in_the_c_locale_with_the_system_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login in another language, and the PATH that su keeps."""
    program(tmp_path / "nvidia-smi", 'echo "$LC_ALL $PATH"; echo noise >&2; exit 9')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    answer = tree.run_program(["nvidia-smi"])
    assert answer
    status, output = answer
    locale, path = output.split()
    assert (status, locale) == (9, "C")
    assert {"/usr/local/sbin", "/usr/sbin", "/sbin"} <= set(path.split(":"))


def test_a_program_that_is_not_installed_or_does_not_start_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tree.run_program(["no-such-program-of-a-gpu"]) is None
    (tmp_path / "rocm-smi").write_bytes(b"\x7fELF")
    (tmp_path / "rocm-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = tree.run_program(["rocm-smi"])
    assert answer
    assert answer[0] == 124


@pytest.mark.parametrize(
    ("target", "expected"),
    [("/usr/src/headers", True), ("../../../usr/src/headers", True), ("/usr/src/missing", False)],
)
def test_links_are_resolved_below_the_root(tmp_path: Path, target: str, expected: bool) -> None:
    (tmp_path / "usr/src/headers").mkdir(parents=True)
    (tmp_path / "lib/modules/k").mkdir(parents=True)
    (tmp_path / "lib/modules/k/build").symlink_to(target)
    assert tree.Tree(str(tmp_path)).resolves("lib/modules/k/build") is expected


def test_unreadable_files_count_as_missing(tmp_path: Path) -> None:
    files = tree.Tree(str(tmp_path))
    assert (files.bytes("none"), files.text("none"), files.names("none"), files.find("n*")) == (b"", "", [], [])
    assert not files.has("none")
    assert not files.resolves("none")


def test_an_unknown_account_is_not_denied(tmp_path: Path) -> None:
    node = tmp_path / "dev/kfd"
    node.parent.mkdir()
    node.touch(mode=0o600)
    stranger = tree.Account("stranger", node.stat().st_uid + 1, frozenset())
    assert tree.denied(str(tmp_path), stranger, "/dev/kfd") is True
    assert tree.denied(str(tmp_path), stranger, "/dev/none") is False
    assert tree.denied(str(tmp_path), None, "/dev/kfd") is False
