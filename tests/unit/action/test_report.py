# SPDX-License-Identifier: GPL-3.0-or-later
"""The action collects the facts of all hosts of the play and writes the page and the JSON."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.action.report import create, host_facts, is_observed, json_path
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError

from tests.unit.plugin_utils import fleet


def variables() -> dict[str, t.Any]:
    return {
        "ansible_play_hosts_all": ["a", "b", "c"],
        "ansible_play_hosts": ["a", "c"],
        "hostvars": {
            "a": {"ollama_host_info": fleet.observed(fleet.model("x:1b")), "group_names": ["ollama_servers"]},
            "b": {"group_names": ["ollama_servers"]},
            "c": {"ollama_host_info": {"unreachable": True, "msg": "no route"}, "group_names": ["ollama_servers"]},
        },
    }


def test_hosts_that_left_the_play_have_a_reason() -> None:
    facts = host_facts(variables())
    assert "ollama_report_unreachable" not in facts["a"]
    assert facts["b"]["ollama_report_failure"] == "a task failed, as shown above"
    assert facts["c"]["ollama_report_unreachable"] == "no route"


def test_a_host_of_a_later_batch_has_not_been_contacted() -> None:
    known = variables() | {"ansible_play_hosts": ["a", "b"], "ansible_play_batch": ["a"]}
    assert [host for host, facts in host_facts(known).items() if facts.get("ollama_report_waits")] == ["b"]
    known["hostvars"]["b"]["ollama_report"] = {"version": "0.35.1"}
    assert not [host for host, facts in host_facts(known).items() if facts.get("ollama_report_waits")]


def test_the_reason_is_the_last_failed_result_of_a_role() -> None:
    known = variables()
    known["hostvars"]["b"] |= {
        "ollama__preflight": {"failed": False, "msg": "all was well"},
        "ollama__models": {"failed": True, "msg": "a:latest: pinned is x"},
        "mine__result": {"failed": True, "msg": "not of this collection"},
    }
    assert host_facts(known)["b"]["ollama_report_failure"] == "a:latest: pinned is x"
    known["hostvars"]["b"]["ollama__models"] = {"unreachable": True, "msg": "no route"}
    assert host_facts(known)["b"]["ollama_report_unreachable"] == "no route"


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ({"ollama__task": {"failed": True, "msg": "Unable to start service"}}, "Unable to start service"),
        ({"packages__task": {"failed": True, "msg": "No package zstd"}}, "No package zstd"),
        ({"gpu_driver__task": {"failed": True, "msg": "Task failed: no space"}}, "no space"),
        # The end of a rescue has the first failure and what follows from it.
        (
            {
                "ollama__failed": {"failed": True, "msg": "it does not start. Rolled back to 0.34.4"},
                "ollama__task": {"failed": True, "msg": "Job for ollama.service failed"},
            },
            "it does not start. Rolled back to 0.34.4",
        ),
        ({"ollama__failed": {"failed": False}, "ollama__task": {"failed": True, "msg": "later"}}, "later"),
        (
            {
                "ollama__task": {
                    "failed": True,
                    "msg": "One or more items failed",
                    "results": [{}, {"failed": 1, "msg": "b"}],
                }
            },
            "b",
        ),
        (
            {
                "ollama__task": {
                    "failed": True,
                    "msg": "non-zero return code",
                    "rc": 1,
                    "stderr_lines": ["a", "no room"],
                }
            },
            "non-zero return code: no room",
        ),
        ({"ollama__task": {"failed": True, "msg": "http://u:p@h is down\nx"}}, "http://***@h is down x"),
    ],
)
def test_the_reason_of_tasks_of_ansible(results: dict[str, t.Any], text: str) -> None:
    known = variables()
    known["hostvars"]["b"] |= results
    assert host_facts(known)["b"]["ollama_report_failure"] == text
    assert is_observed(known["hostvars"]["b"])
    assert not is_observed({"group_names": []})


def test_the_version_is_that_of_the_rollback() -> None:
    known = variables()
    known["hostvars"]["b"] |= {
        "ollama_report": {"version": "0.35.1", "models": []},
        "ollama__rolled_back": {"server_version": "0.35.0"},
        "ollama__models": {"failed": True, "msg": "x"},
    }
    assert host_facts(known)["b"]["ollama_report"]["version"] == "0.35.0"


def run(**args: t.Any) -> dict[str, t.Any]:
    options = {"file": None, "benchmarks": None, "predicted": None, **args}
    return create(options, variables(), check=True, now=fleet.NOW)


def test_the_page_and_its_json_are_written(tmp_path: Path) -> None:
    path = tmp_path / "fleet.html"
    result = run(file=str(path))
    assert result["files"] == [str(path), str(tmp_path / "fleet.json")]
    assert json.loads((tmp_path / "fleet.json").read_text()) == result["report"]
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert sorted(os.listdir(tmp_path)) == ["fleet.html", "fleet.json"]
    assert run()["files"] == []


def test_invalid_paths_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(OllamaError) as info:
        run(file=str(tmp_path / "fleet.txt"))
    assert (info.value.code, "expected a name that ends in .html" in info.value.message) == ("value_invalid", True)
    with pytest.raises(OllamaError) as info:
        run(file=str(tmp_path / "missing" / "fleet.html"))
    assert info.value.code == "report_unwritable"


def test_the_newest_benchmark_of_each_host_is_part_of_the_report(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "2026.json").write_text(json.dumps(fleet.benchmark()))
    (tmp_path / "b" / "2026.json").write_text("[")
    result = run(benchmarks=str(tmp_path), file=str(tmp_path / "fleet.html"))
    rows = {row["host"]: row["benchmark"] for row in result["report"]["hosts"]}
    assert rows["a"]["models"][0]["name"] == "llama3.2:3b"
    assert (rows["b"], rows["c"]) == (None, None)
    assert (tmp_path / "fleet.html").read_text().count("<svg") == 2


def test_facts_of_modules_are_read_too() -> None:
    known = variables()
    known["hostvars"]["a"]["ansible_facts"] = {"ollama_report": {"version": "0.35.1"}}
    assert host_facts(known)["a"]["ollama_report"] == {"version": "0.35.1"}


def test_the_json_is_beside_the_page() -> None:
    assert json_path("/srv/www/ollama.v1.html") == "/srv/www/ollama.v1.json"
