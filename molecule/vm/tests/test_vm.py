# SPDX-License-Identifier: GPL-3.0-or-later
"""After reboots, power cuts and other clocks: the host is intact, and the server has all models."""

from __future__ import annotations

import json
import typing as t


def test_all_units_run_with_apparmor(host: t.Any) -> None:
    assert host.check_output("systemctl is-system-running") == "running"
    assert host.check_output("cat /sys/module/apparmor/parameters/enabled") == "Y"


def test_the_server_has_all_models_of_the_declaration(host: t.Any) -> None:
    def get(path: str) -> t.Any:
        return json.loads(host.check_output("curl --silent --fail http://127.0.0.1:11434%s", path))

    assert get("/api/version") == {"version": "0.35.1"}
    assert {row["name"] for row in get("/api/tags")["models"]} == {"tiny:latest", "big:32m"}


def test_every_blob_matches_its_name(host: t.Any) -> None:
    """Nothing is left of the interrupted pull, and no blob is incomplete."""
    lines = host.check_output("cd /srv/models/blobs && sha256sum -- *").splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    assert sums == {name: name.removeprefix("sha256-") for name in sums}


def test_nothing_is_left_of_the_interrupted_upgrade(host: t.Any) -> None:
    assert set(host.check_output("ls -A /opt/ollama/releases").split()) == {"0.35.0", "0.35.1"}
    assert host.check_output("ls -A /opt/ollama/download") == ""
