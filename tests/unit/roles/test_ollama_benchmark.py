# SPDX-License-Identifier: GPL-3.0-or-later
"""Role ollama_benchmark, run by Ansible on this host against the stand-in, with its results on the controller."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import jsonschema
import pytest

from tests import standin
from tests.unit.modules.test_model_benchmark import SCHEMA
from tests.unit.modules.test_model_loaded import fill
from tests.unit.playbook import run_playbook

SMALL = {
    "ollama_benchmark_parallel": [1, 2],
    "ollama_benchmark_prompt_tokens": [16],
    "ollama_benchmark_rounds": 1,
    "ollama_benchmark_answer_tokens": 4,
}


class Play:
    """The role on the host dev1."""

    def __init__(self, folder: Path, server: standin.Running) -> None:
        self.folder = folder
        self.variables: dict[str, t.Any] = {
            **SMALL,
            "ollama_settings": {"host": server.address, "num_parallel": 2},
            "ollama_models": ["a", {"name": "embed"}, {"name": "b:1b", "state": "absent"}],
        }

    def __call__(self, *options: str, **variables: t.Any) -> tuple[int, str]:
        play = {
            "hosts": "ollama_servers",
            "gather_facts": False,
            "connection": "local",
            "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}", **self.variables, **variables},
            "roles": ["kaido.ollama.ollama_benchmark"],
        }
        inventory = {"ollama_servers": {"hosts": {"dev1": None}}}
        done = run_playbook(self.folder, inventory, [play], *options)
        return done.status, done.output

    def results(self) -> list[Path]:
        return sorted((self.folder / "benchmarks/dev1").glob("*.json"))


@pytest.fixture
def play(tmp_path: Path) -> t.Iterator[Play]:
    store = tmp_path / "store"
    fill(store, 1)
    with standin.running("0.35.1", store) as server:
        (tmp_path / "plays").mkdir()
        yield Play(tmp_path / "plays", server)


def test_the_declared_models_are_measured_and_kept_beside_the_inventory(play: Play) -> None:
    status, output = play("--check")
    assert status == 0, output
    assert play.results() == []
    status, output = play()
    assert status == 0, output
    assert "changed=0" in output
    [path] = play.results()
    document = json.loads(path.read_text())
    jsonschema.validate(document, SCHEMA)
    assert document["inventory_hostname"] == "dev1"
    assert [model["name"] for model in document["models"]] == ["a:latest", "embed:latest"]
    assert document["settings"]["num_parallel"] == 2
    assert "a:latest: num_parallel: " in output


def test_a_regression_is_shown_or_fails(play: Play) -> None:
    assert play()[0] == 0
    [path] = play.results()
    document = json.loads(path.read_text())
    for cell in document["models"][0]["cells"]:
        cell["throughput"] = {key: value * 1e6 for key, value in cell["throughput"].items()}
    path.write_text(json.dumps(document))
    # Older than the next one, whose name is the second in which it began.
    path.rename(path.with_name("20260101T000000Z.json"))
    status, output = play(ollama_benchmark_fail_on_regression=False)
    assert status == 0, output
    assert "regression: a:latest, direct, 16 tokens, 1 parallel: throughput" in output
    play.results()[-1].unlink()
    status, output = play(ollama_benchmark_fail_on_regression=True)
    assert status == 2
    assert "16 tokens, 2 parallel: throughput" in output


def test_the_gateway_needs_a_token_and_the_token_is_not_shown(play: Play) -> None:
    gateway = {"ollama_gateway_enabled": True, "ollama_gateway_url": "https://127.0.0.1:1"}
    status, output = play(**gateway)
    assert status == 0, output
    assert "a:latest, gateway: " not in output
    status, output = play("-vvv", **gateway, ollama_benchmark_gateway_token="secret-of-the-benchmark")
    assert status == 0, output
    assert "a:latest, gateway: " in output
    assert "secret-of-the-benchmark" not in output


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ollama_benchmark_parallel": [0]}, "parallel: invalid value 0; expected 1 to 64"),
        ({"ollama_benchmark_models": ["nowhere"]}, "nowhere:latest: not installed"),
        ({"ollama_benchmark_rounds": "often"}, "ollama_benchmark_rounds"),
        ({"ollama_benchmark_dir": "/dev/null/x"}, "results_dir: cannot write /dev/null/x/dev1/"),
    ],
)
def test_invalid_values_are_named(play: Play, variables: dict[str, t.Any], message: str) -> None:
    status, output = play(**variables)
    assert status == 2
    assert message in output
