# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode has run on a fresh host: nothing of the role may exist yet."""

from __future__ import annotations

import typing as t

import pytest


@pytest.mark.parametrize(
    "path",
    [
        "/opt/ollama",
        "/etc/ollama",
        "/usr/local/bin/ollama",
        "/usr/share/ollama",
        "/etc/systemd/system/ollama.service",
        "/var/lib/kaido-ollama",
    ],
)
def test_nothing_is_written(host: t.Any, path: str) -> None:
    assert not host.file(path).exists


def test_nothing_is_added_to_the_system(host: t.Any) -> None:
    assert not host.user("ollama").exists
    # pacman brings zstd.
    assert host.exists("zstd") == host.exists("pacman")
    assert not host.service("ollama").is_running
