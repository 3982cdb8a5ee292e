# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts, ports and URLs."""

from __future__ import annotations

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.address import Address, parse_address, parse_url


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1", "127.0.0.1", 11434, "127.0.0.1:11434"),
        ("0.0.0.0:80", "0.0.0.0", 80, "0.0.0.0:80"),
        ("::1", "::1", 11434, "[::1]:11434"),
        ("[::1]", "::1", 11434, "[::1]:11434"),
        ("[fd00::11]:9", "fd00::11", 9, "[fd00::11]:9"),
        ("fe80::1%eth0", "fe80::1%eth0", 11434, "[fe80::1%eth0]:11434"),
        (" hecate.lan:8080 ", "hecate.lan", 8080, "hecate.lan:8080"),
        ("gpu_1", "gpu_1", 11434, "gpu_1:11434"),
    ],
)
def test_an_address_is_parsed_and_formatted(text: str, host: str, port: int, shown: str) -> None:
    address = parse_address(text, 11434)
    assert (address.host, address.port, str(address)) == (host, port, shown)
    assert parse_address(shown, 1) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":80", "a:", "a:0", "a:65536", "a:b", "1.2.3", "1.2.3.4.5", "256.1.1.1", "[127.0.0.1]:80", "[::1"),
        *("::1]", "[]:80", "-a", "a..b", "a b", "a/b", "a:1:2", "http://a", "a" * 64, ":::", None, 80, ["a"]),
    ],
)
def test_anything_else_is_refused_with_what_is_expected(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_address(text, 11434)


def test_a_wildcard_is_reached_at_the_loopback_address_of_its_family() -> None:
    assert [Address(host, 1).local.url() for host in ("0.0.0.0", "::", "10.0.0.1")] == [
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://10.0.0.1:1",
    ]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("LocalHost.", True),
        ("10.0.0.1", False),
        ("::", False),
        ("hecate", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Address(host, 1).is_loopback is loopback


def test_a_url_is_parsed() -> None:
    assert parse_url("https://[fd00::1]:11443/x/") == ("https", Address("fd00::1", 11443), "/x")
    assert parse_url("http://hecate.lan") == ("http", Address("hecate.lan", 80), "")


@pytest.mark.parametrize(
    "text",
    [
        *("hecate", "//a", "ftp://a", "http://", "http://a:b", "http://a b", "http://a\n", "http://[::1", "file:///x"),
        *("http://u:secret@a", "http://a?x=secret", "http://a#secret", "http://\\a", None, 7),
    ],
)
def test_any_other_url_is_refused_without_repeating_it(text: object) -> None:
    with pytest.raises(ValueError, match="expected") as raised:
        parse_url(text)
    assert "secret" not in str(raised.value)
