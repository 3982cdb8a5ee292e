# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots of recorded benchmark results."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._benchmark import plots
from ansible_collections.kaido.ollama.plugins.module_utils._benchmark.requests import GATEWAY

from tests.unit.module_utils.benchmark.test_results import cell, document, model

SVG = "{http://www.w3.org/2000/svg}"
RISING = {1: 10.0, 2: 19.0, 4: 36.0, 8: 38.0}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_each_model_has_throughput_and_latency() -> None:
    first, second = plots.plots([document(model(RISING), inventory_hostname="dev1")])
    assert texts(first)[0] == "a:latest on dev1: throughput, answer tokens/s"
    assert texts(second)[0] == "a:latest on dev1: latency, seconds"
    assert "knee: 4" in texts(first)
    assert {"512 tokens, answer", "512 tokens, first token"} <= set(texts(second))


def test_a_line_has_a_point_for_each_parallelism_within_the_plot() -> None:
    root = ElementTree.fromstring(plots.plots([document(model(RISING))])[0])
    [line] = root.iter(f"{SVG}polyline")
    places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert [x for x, _y in places] == sorted({x for x, _y in places})
    # More throughput is higher up.
    assert [y for _x, y in places] == sorted((y for _x, y in places), reverse=True)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
    assert len(list(root.iter(f"{SVG}circle"))) == 4


def test_the_gateway_is_a_dashed_line_of_its_own() -> None:
    cells = [cell(n, 10.0 * n, way=way) for way in ("direct", GATEWAY) for n in (1, 2)]
    svg = plots.plots([document(model({}, cells=cells))])[0]
    lines = list(ElementTree.fromstring(svg).iter(f"{SVG}polyline"))
    assert [line.attrib["stroke-dasharray"] for line in lines] == ["", "6 4"]
    assert "512 tokens, gateway" in texts(svg)


def test_names_are_text_and_never_markup() -> None:
    name = '<script>alert(1)</script>&"\x1b[2J\u202e'
    for svg in plots.plots([document(model(RISING, name=name), inventory_hostname="</svg><b>")]):
        root = ElementTree.fromstring(svg)
        assert not [element.tag for element in root.iter() if element.tag.lower().endswith(("script", "}b"))]
        assert texts(svg)[0].startswith('<script>alert(1)</script>&"')
        assert "\x1b" not in svg


def test_a_plot_follows_the_colour_scheme_and_loads_nothing() -> None:
    svg = plots.plots([document(model(RISING))])[0]
    assert "prefers-color-scheme:dark" in svg
    assert not re.search(r"href|url\(|@import", svg)


@pytest.mark.parametrize(
    "measured",
    [
        model({}),
        model({1: None}),
        model({1: 0.0, 2: 0.0}),
        model({1: 5.0}),
        model({1: float("inf"), 2: 3.0}),
        model({}, cells=[cell(1, 5.0, seconds=None, first_token_seconds=None)]),
        model({}, failure={"code": "load_failed", "message": "x"}),
    ],
)
def test_missing_and_extreme_figures_give_plots_that_parse(measured: dict[str, object]) -> None:
    for svg in plots.plots([document(measured)]):
        ElementTree.fromstring(svg)


@pytest.mark.parametrize(
    ("value", "rounded"), [(0, 1), (1, 1), (1.1, 1.2), (0.033, 0.04), (37, 40), (99, 100), (1e-9, 1e-9), (4500, 5000)]
)
def test_axes_end_at_round_numbers(value: float, rounded: float) -> None:
    assert plots._round_up(value) == pytest.approx(rounded)
