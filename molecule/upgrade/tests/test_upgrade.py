# SPDX-License-Identifier: GPL-3.0-or-later
"""After everything: 0.40.2 serves, what it may rewrite was copied, and nothing of the failed attempts is left."""

from __future__ import annotations

import json
import typing as t


def test_the_last_wanted_version_serves_all_models(host: t.Any) -> None:
    def get(path: str) -> t.Any:
        return json.loads(host.check_output("curl --silent --fail http://127.0.0.1:11434%s", path))

    assert get("/api/version") == {"version": "0.40.2"}
    assert {row["name"] for row in get("/api/tags")["models"]} >= {"tiny:latest", "pre:1b", "pre:latest"}


def test_only_the_requested_number_of_releases_is_kept(host: t.Any) -> None:
    assert host.check_output("ls -A /opt/ollama/releases").split() == ["0.35.0", "0.40.2"]
    assert host.check_output("ls -A /opt/ollama/download") == ""


def test_the_manifests_were_copied_before_0_40(host: t.Any) -> None:
    copy = "/var/lib/kaido-ollama/before-0.40.2/manifests/registry.ollama.ai/library"
    assert set(host.check_output(f"cd {copy} && ls").split()) == {"pre", "tiny"}
    assert json.loads(host.file(f"{copy}/pre/1b").content_string)["schemaVersion"] == 2


def test_only_root_owns_usr_local(host: t.Any) -> None:
    assert host.check_output("find /usr/local -not -user root -o -not -group root -a -not -group staff") == ""
