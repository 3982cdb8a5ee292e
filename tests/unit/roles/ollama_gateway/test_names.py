# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of tokens and servers: each one works, or is refused."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.filter.token_errors import token_errors

from tests.unit.roles.ollama_gateway.gateway import haproxy, nginx, running, status

# Every kind of name that a map of nginx, its variables, regular expressions or includes, or HAProxy could read as
# something else, and lengths at the limits of hashes. The filter decides; what it accepts has to work.
NAMES = [
    "default", "include", "hostnames", "volatile", "Default", "map", "user", "admin", "on", "off", "none", "null", "0",
    "1e3", "true", "-", "--", ".a", "a.", ".example.org", "*.example.org", "example.*", "~alice", "~*alice", "~",
    "\\alice", "\\default", "$host", "${host}", "a$b", "a b", "a\tb", "a\nb", "a;b", "a{b", "a}b", '"a"', "'a'",
    "a\"b", "a'b", "#a", "a#b", "a/b", "user/a", "a:b", "a=b", "a,b", "%41", "\u00e4rger", "\u0430lice", "a\u00a0b",
    "a\x00b", "a\x1b[31m", "", " ",
    "a" * 64, "a" * 65, "A" * 63, "x" * 60 + "@-._", "alice@example.org", "2026", "server", "backend", "BACKEND",
]  # fmt: skip


@nginx
def test_every_name_works_or_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    rows = [{"name": name, "token": f"{index:03}-{'x' * 20}", "scope": "user"} for index, name in enumerate(NAMES)]
    # Each on its own: the names differ in case only, too.
    accepted = [row for row in rows if not token_errors([row])]
    refused = {row["name"] for row in rows if token_errors([row])}
    assert {"default", "include", "hostnames", "volatile", "a" * 64} <= {row["name"] for row in accepted}
    assert {"~alice", "\\default", "$host", "a;b", '"a"', "\u00e4rger", "a" * 65, "a\nb", "-"} <= refused
    unique = list({row["name"].lower(): row for row in accepted}.values())
    with running(ollama_gateway_tokens=unique, ollama_gateway_rate=0) as gateway:
        for row in unique:
            assert status(gateway.ask("GET /api/tags", token=row["token"])) == 200, row["name"]
            assert status(gateway.ask("POST /api/pull", token=row["token"])) == 403, row["name"]
        found = [line.split()[2] for line in gateway.log().splitlines() if " /api/tags " in line]
        assert found == [row["name"] for row in unique]


@haproxy
@pytest.mark.parametrize("name", ["default", "include", "BACKEND", "own", "peers", "ssl", "check", "0", "a" * 200])
def test_every_name_of_a_server_works_in_haproxy(tmp_path: Path, name: str) -> None:
    timeouts = "".join(f" timeout {what} 1s\n" for what in ("connect", "client", "server"))
    proxy = f"listen own\n bind 127.0.0.1:1\n server {name} 192.0.2.1:80\n"
    (tmp_path / "haproxy.cfg").write_text(f"defaults\n{timeouts}{proxy}")
    path = f"/usr/sbin:{os.environ['PATH']}"
    done = subprocess.run(
        ["haproxy", "-c", "-f", tmp_path / "haproxy.cfg"],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
