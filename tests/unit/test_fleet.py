"""The simulation behind docs/scaling.md: it agrees with the formulas there, and the plot is what it draws."""

from __future__ import annotations

import math

import pytest

from tests.bench.fleet import CURVES, HOSTS, World, mirrors, peers_bound, svg, wan_each, waves
from tests.conftest import ROOT

# No host is slower than its network, so that only the lines count, as in the formulas.
LINES = World(mirror=1000, host=1000)


@pytest.mark.parametrize("hosts", [2, 3, 10, 100, 1000])
def test_formulas(hosts: int) -> None:
    line, network = 8 * LINES.model / LINES.wan, 8 * LINES.model / LINES.lan
    assert wan_each(LINES, hosts) == pytest.approx(hosts * line)
    assert mirrors(LINES, hosts) == pytest.approx(line + (hosts - 1) * network)
    assert waves(LINES, hosts) == pytest.approx(line + math.ceil(math.log2(hosts)) * network)


@pytest.mark.parametrize("hosts", HOSTS)
def test_nothing_beats_the_bound(hosts: int) -> None:
    assert all(curve(World(), hosts) >= peers_bound(World(), hosts) for _colour, curve in CURVES.values())


def test_a_slow_disk_is_slow_however_fast_the_network() -> None:
    assert mirrors(World(wan=100, lan=100, mirror=100, host=0.1), 2) == pytest.approx(2 * 40 / 0.1)


def test_the_page_shows_the_plot_that_is_drawn_now() -> None:
    assert (ROOT / "docs" / "scaling.svg").read_text() == svg(World())
    assert "](scaling.svg)" in (ROOT / "docs" / "scaling.md").read_text()
