# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of docs/scaling.md: transferred bytes, formulas, and the plot."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.modules import model

from tests import standin
from tests.bench.fleet import CURVES, HOSTS, World, mirrors, peers_bound, svg, wan_each, waves
from tests.conftest import ROOT
from tests.standin.registry import Registry, make_model
from tests.unit.conftest import RunModule

# No host is slower than its network, so that only the lines count, as in the formulas.
LINES = World(mirror=1000, host=1000)


@pytest.mark.parametrize("hosts", [2, 3, 10, 100, 1000])
def test_formulas(hosts: int) -> None:
    line, network = 8 * LINES.model / LINES.wan, 8 * LINES.model / LINES.lan
    assert wan_each(LINES, hosts) == pytest.approx(hosts * line)
    assert mirrors(LINES, hosts) == pytest.approx(line + (hosts - 1) * network)
    assert waves(LINES, hosts) == pytest.approx(line + math.ceil(math.log2(hosts)) * network)


@pytest.mark.parametrize("hosts", HOSTS)
def test_no_result_is_better_than_the_bound(hosts: int) -> None:
    assert all(curve(World(), hosts) >= peers_bound(World(), hosts) for _colour, curve in CURVES.values())


def test_a_slow_disk_is_slow_however_fast_the_network() -> None:
    assert mirrors(World(wan=100, lan=100, mirror=100, host=0.1), 2) == pytest.approx(2 * 40 / 0.1)


def test_the_page_shows_the_plot_that_is_drawn_now() -> None:
    assert (ROOT / "docs" / "scaling.svg").read_text() == svg(World())
    assert "](scaling.svg)" in (ROOT / "docs" / "scaling.md").read_text()


@pytest.mark.parametrize("hosts", [1, 3, 10])
def test_a_model_is_downloaded_once_from_upstream(
    tmp_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch, hosts: int
) -> None:
    """The mirror is a registry over the first host's own store; each host has all models at the end."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the public registry is nowhere
    digest = "sha256:" + make_model(tmp_path / "upstream", "m", size=300_000)
    with Registry(tmp_path / "upstream") as upstream, Registry(tmp_path / "host0") as mirror:
        for host in range(hosts):
            store = tmp_path / f"host{host}"
            with standin.running(models_dir=store) as server:
                done = run_module(
                    model,
                    {
                        "name": "m",
                        "mirrors": [f"http://{source.host}" for source in ([mirror] if host else []) + [upstream]],
                        "mirrors_trusted": True,
                        "api_url": server.url,
                        "models_dir": str(store),
                        "state_dir": str(tmp_path / "state"),
                    },
                )
            assert done["models"][0]["digest_after"] == digest
        blobs = sum(path.stat().st_size for path in (tmp_path / "upstream" / "blobs").iterdir())
        assert sum(row.sent for row in upstream.requests if row.range) == blobs
        assert sum(row.sent for row in mirror.requests if row.range) == (hosts - 1) * blobs
