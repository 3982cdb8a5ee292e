# SPDX-License-Identifier: GPL-3.0-or-later
"""What scenario default declares beyond the depot's models: an alias."""

from __future__ import annotations

import json
import typing as t


def test_an_alias_is_the_same_model(host: t.Any) -> None:
    rows = json.loads(host.check_output("curl --silent --fail http://127.0.0.1:11434/api/tags"))["models"]
    digests = {row["name"]: row["digest"] for row in rows}
    assert digests["default-chat:latest"] == digests["kaido/tiny2:q8"]
    assert len(digests) == 3
