# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit gets the targets of links."""

from __future__ import annotations

from ansible_collections.kaido.ollama.plugins.module_utils._preflight import (
    unit_file,
)

from tests.conftest import ROOT


def test_the_unit_gets_the_targets_of_links() -> None:
    unit = (
        "[Unit]\nRequiresMountsFor=/m\n[Service]\nProtectSystem=strict\nReadWritePaths=/h /m\nProtectHome=true\nX=1\n"
    )
    assert unit_file.unit_with_targets(unit, ()) == unit
    lines = unit_file.unit_with_targets(unit, ["/data/b"]).splitlines()
    assert [line for line in lines if "/data" in line] == ["RequiresMountsFor=/data/b", "ReadWritePaths=/data/b"]
    assert "ProtectHome=true" in lines
    lines = unit_file.unit_with_targets(unit, ["/home/lab/b"]).splitlines()
    assert {"ProtectHome=tmpfs", "BindPaths=/home/lab/b", "ReadWritePaths=/home/lab/b", "X=1"} <= set(lines)
    assert "ProtectHome=true" not in lines


def test_the_lines_that_are_changed_for_links_are_in_the_template() -> None:
    template = (ROOT / "roles/ollama/templates/ollama.service.j2").read_text().splitlines()
    assert {"ProtectHome=true", "ProtectHome=tmpfs"} <= set(template)
    for start in ("RequiresMountsFor=", "ReadWritePaths="):
        assert [line for line in template if line.startswith(start)]
