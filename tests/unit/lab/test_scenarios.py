# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule runs each step of the scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

SCENARIOS = sorted(ROOT.glob("molecule/*/molecule.yml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.parent.name)
def test_each_side_effect_of_a_scenario_is_executed(path: Path) -> None:
    """Molecule skips all of them, without an error, where the playbook of the action itself does not exist."""
    text = yaml.safe_load(path.read_text()) or {}
    own = text.get("ansible", {}).get("playbooks", {}).get("side_effect", "side_effect.yml")
    steps = [step.split() for step in text.get("scenario", {}).get("test_sequence", [])]
    side_effects = [step[1:] or [own] for step in steps if step[0] == "side_effect"]
    playbooks = {own, *(name for names in side_effects for name in names)} if side_effects else set()
    assert {name for name in playbooks if not (path.parent / name).is_file()} == set()
