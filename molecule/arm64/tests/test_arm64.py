# SPDX-License-Identifier: GPL-3.0-or-later
"""The host is arm64, and has the release for it."""

from __future__ import annotations

import typing as t


def test_the_kernel_and_the_programs_are_arm64(host: t.Any) -> None:
    assert host.check_output("uname -m") == "aarch64"
    assert host.check_output("dpkg --print-architecture") == "arm64"


def test_the_release_is_the_one_for_arm64(host: t.Any) -> None:
    library = host.file("/opt/ollama/releases/0.35.1/lib/ollama/libggml-base.so")
    assert library.content_string.endswith(" of 0.35.1 on arm64\n")
