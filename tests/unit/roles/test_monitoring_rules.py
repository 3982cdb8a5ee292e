# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules and the dashboard: loaded by promtool, with the metrics that the program really writes."""

from __future__ import annotations

import json
import re
import shutil
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.kaido.ollama.plugins.module_utils._monitor import prometheus

from tests.conftest import ROOT
from tests.unit.module_utils.monitor.hosts import STORES, config_of, everything, promtool

FILES = ROOT / "roles/ollama_monitoring/files"
TESTS = ROOT / "tests/monitoring/ollama.test.yml"
RULES = [
    rule for group in yaml.safe_load((FILES / "ollama.rules.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD = json.loads((FILES / "ollama.dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"{panel['title']} {target['refId']}": re.sub(r"\$__rate_interval", "5m", target["expr"]).replace("$instance", ".*")
    for panel in PANELS
    for target in panel["targets"]
}
EXPRESSIONS = {**QUERIES, **{rule["alert"]: rule["expr"] for rule in RULES}}
# Panels that come with Grafana.
STANDARD = {"row", "stat", "timeseries", "table", "gauge", "bargauge"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """The metrics of a host that has all that can be measured: name -> labels of its series."""
    folder = tmp_path_factory.mktemp("full")
    models_dir = Path(shutil.copytree(STORES / "store-v1", folder / "models", symlinks=True))
    text = everything(config_of(folder, models_dir), models_dir)
    return {name: [labels for labels, _value in rows] for name, rows in prometheus.parse(text).items()}


def test_the_rules_are_accepted_by_promtool() -> None:
    assert promtool("check", "rules", str(FILES / "ollama.rules.yml")) == ""


def test_each_alert_fires_and_clears(tmp_path: Path) -> None:
    shutil.copy(FILES / "ollama.rules.yml", tmp_path)
    shutil.copy(TESTS, tmp_path)
    assert promtool("test", "rules", str(tmp_path / TESTS.name)) == ""


def test_each_alert_has_a_test_in_which_it_fires_and_one_after_it_in_which_it_is_clear() -> None:
    seen: dict[str, list[bool]] = {}
    for group in yaml.safe_load(TESTS.read_text())["tests"]:
        for case in sorted(group["alert_rule_test"], key=lambda case: int(case["eval_time"].rstrip("m"))):
            seen.setdefault(case["alertname"], []).append(bool(case["exp_alerts"]))
    assert sorted(seen) == sorted(rule["alert"] for rule in RULES)
    assert not [name for name, fires in seen.items() if True not in fires or fires[-1]]


@pytest.mark.parametrize("name", sorted(EXPRESSIONS))
def test_each_query_names_metrics_and_labels_that_are_written(
    name: str, written: dict[str, list[dict[str, str]]]
) -> None:
    metrics = re.findall(r"\bkaido_ollama_\w+", EXPRESSIONS[name])
    assert metrics
    assert not set(metrics) - set(written)
    labels = {"instance", "job"}.union(*(row for metric in metrics for row in written[metric]))
    used = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", EXPRESSIONS[name])
    used += [label for group in re.findall(r"\bby \(([^)]*)\)", EXPRESSIONS[name]) for label in group.split(", ")]
    assert not set(used) - labels
    texts = [
        target["legendFormat"] for panel in PANELS for target in panel["targets"] if name.startswith(panel["title"])
    ]
    texts += [text for rule in RULES if rule["alert"] == name for text in rule["annotations"].values()]
    shown = {label for text in texts for label in re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text)}
    assert not shown - labels


def test_each_query_of_the_dashboard_finds_something(written: dict[str, list[dict[str, str]]], tmp_path: Path) -> None:
    """In the metrics of a host that has everything: promtool evaluates each query over them."""

    def series(name: str, labels: t.Mapping[str, str]) -> str:
        return f"{name}{{{','.join(f'{key}={json.dumps(text)}' for key, text in {**labels, 'instance': 'a'}.items())}}}"

    tests = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series(name, row), "values": "1x20"} for name, rows in written.items() for row in rows
                ],
                "promql_expr_test": [
                    {
                        "expr": f"count({query}) > bool 0",
                        "eval_time": "10m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                    for query in QUERIES.values()
                ],
            }
        ],
    }
    (tmp_path / "queries.yml").write_text(yaml.safe_dump(tests))
    assert promtool("test", "rules", str(tmp_path / "queries.yml")) == ""


def test_each_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    """Each collected metric has a use."""
    used = " ".join(EXPRESSIONS.values())
    hidden = {name for name in prometheus.CATALOGUE if not re.search(rf"\bkaido_ollama_{name}\b", used)}
    assert hidden <= {"gpus", "blob_bytes", "loaded_model_vram_bytes", "partial_downloads", "orphan_files"}


def test_the_dashboard_needs_no_plugin_and_queries_only_selected_hosts() -> None:
    assert {panel["type"] for panel in DASHBOARD["panels"]} <= STANDARD
    assert not [panel["title"] for panel in PANELS for target in panel["targets"] if "$instance" not in target["expr"]]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken = [
        (column, line)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(column for column, _line in taken) < 24
