# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of benchmarks on recorded figures."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._benchmark import document as document_module
from ansible_collections.kaido.ollama.plugins.module_utils._benchmark import history, results
from ansible_collections.kaido.ollama.plugins.module_utils._benchmark.requests import (
    DIRECT,
    GATEWAY,
    Prompts,
    Round,
    run_round,
)
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.shape import Required

from tests.conftest import ROOT

SETTINGS = {"answer_tokens": 64}


def sample(seconds: float = 2.0, first: float = 0.5, tokens: int = 64) -> dict[str, float]:
    return {
        "seconds": seconds, "first_token_seconds": first, "prompt_tokens": 500, "prompt_seconds": 0.25,
        "answer_tokens": tokens, "answer_seconds": 1.0,
    }  # fmt: skip


def cell(parallel: int, throughput: float | None, *, way: str = DIRECT, prompt: int = 512, **more: t.Any) -> t.Any:
    spread = results.spread([throughput])
    return {
        "way": way, "prompt_tokens": prompt, "parallel": parallel, "requests": 3, "errors": 0, "error": None,
        "measured_prompt_tokens": results.spread([prompt]), "throughput": spread, "seconds": results.spread([2.0]),
        "first_token_seconds": results.spread([0.5]), "prompt_tokens_per_second": results.spread([2000]),
        "answer_tokens_per_second": results.spread([64]), **more,
    }  # fmt: skip


def model(throughputs: t.Mapping[int, float | None], **more: t.Any) -> dict[str, t.Any]:
    memory = {"size": 100, "size_vram": 100, "vram_share": 1.0, "context_length": 4096, "driver_bytes": None}
    return {
        "name": "a:latest", "digest": "x", "kind": "text", "load_seconds": 1.0, "memory": memory, "gpus": [],
        "cells": [cell(parallel, value) for parallel, value in throughputs.items()], "skipped": [],
        "suggestion": None, "failure": None, "complete": True, **more,
    }  # fmt: skip


def document(*models: t.Any, **more: t.Any) -> dict[str, t.Any]:
    return {"schema": 1, "started": "2026-01-02T03:04:05Z", "settings": SETTINGS, "models": list(models), **more}


def test_a_spread_has_the_median_and_both_ends() -> None:
    assert results.spread([3, 1, None, 10]) == {"median": 3, "min": 1, "max": 10}
    assert results.spread([None]) is results.spread([]) is None


def test_a_cell_counts_the_tokens_of_all_requests_of_a_round() -> None:
    rounds = [Round(4.0, [sample(), sample()]), Round(2.0, [sample(), sample(first=0.7)])]
    found = results.cell(DIRECT, 512, 2, rounds)
    assert found["throughput"] == {"median": 48, "min": 32, "max": 64}
    assert found["first_token_seconds"] == {"median": 0.5, "min": 0.5, "max": 0.7}
    assert found["prompt_tokens_per_second"]["median"] == 2000
    assert found["answer_tokens_per_second"]["median"] == 64
    assert (found["requests"], found["errors"], found["error"]) == (4, 0, None)


def test_a_round_with_errors_has_no_throughput() -> None:
    error = OllamaError("server_busy", "busy")
    found = results.cell(DIRECT, 512, 2, [Round(4.0, [sample()], [error])])
    assert found["throughput"] is None
    assert found["seconds"]["median"] == 2
    assert (found["requests"], found["errors"], found["error"]) == (1, 1, "busy")
    assert results.cell(DIRECT, 512, 1, [Round(1.0, [], [error])])["seconds"] is None


def test_an_embedding_model_counts_texts() -> None:
    found = results.cell(DIRECT, 64, 1, [Round(2.0, [{"seconds": 2.0, "texts": 8, "prompt_tokens": 80}])])
    assert found["throughput"]["median"] == 4
    assert found["first_token_seconds"] is found["answer_tokens_per_second"] is None


@pytest.mark.parametrize(
    ("rows", "knee"),
    [
        ([], None),
        ([(1, 10.0)], None),
        ([(1, 10.0), (2, 19.0), (4, 36.0), (8, 38.0)], 4),
        ([(1, 10.0), (2, 10.1), (4, 9.9)], 1),
        ([(1, 10.0), (2, 20.0), (4, 40.0)], 4),
        ([(1, 0.0), (2, 0.0)], 1),
    ],
)
def test_the_knee_is_the_least_parallelism_near_the_highest_throughput(
    rows: list[tuple[int, float]], knee: int | None
) -> None:
    assert results.knee(rows) == knee


@pytest.mark.parametrize(
    ("throughputs", "current", "suggested", "reason"),
    [
        ({1: 10.0, 2: 19.0, 4: 20.0, 8: 20.0}, 8, 2, "more memory without more throughput"),
        ({1: 10.0, 2: 10.0, 4: 10.0, 8: 10.0}, 1, 2, "measure again"),
        ({1: 10.0, 2: 10.0, 4: 10.0}, 4, 1, "without more throughput"),
        ({1: 10.0, 2: 20.0, 4: 40.0}, 4, 4, "still rises"),
        ({1: 10.0, 2: 20.0, 4: 40.0, 6: 41.0}, 4, 6, "waited"),
        ({1: 10.0}, 1, None, "fewer than two levels"),
        ({1: 10.0, 2: None}, 1, None, "fewer than two levels"),
    ],
)
def test_num_parallel_is_suggested_with_its_reason(
    throughputs: dict[int, float | None], current: int, suggested: int | None, reason: str
) -> None:
    found = results.suggestion(model(throughputs), current, SETTINGS)
    assert found["num_parallel"] == suggested
    assert found["reasons"][0].startswith("num_parallel: ")
    assert reason in found["reasons"][0]


@pytest.mark.parametrize(
    ("memory", "skipped", "suggested", "reason"),
    [
        ({"vram_share": 1.0}, [], 4096, "whole model is in GPU memory"),
        ({"vram_share": 0.0}, [], 4096, "runs on the CPU"),
        ({"vram_share": 0.5}, [], 2048, "only 50%"),
        ({"vram_share": 0.5, "context_length": 1024}, [], 1024, "the measured prompts need"),
        ({}, [{"prompt_tokens": 8000, "reason": "x"}], 8192, "do not fit into 4096"),
        ({"longest_context": 6000}, [{"prompt_tokens": 8000, "reason": "x"}], 6000, "do not fit into 4096"),
        ({"longest_context": 4096}, [{"prompt_tokens": 8000, "reason": "x"}], 4096, "supports no longer context"),
        ({"context_length": None}, [], None, "did not report"),
    ],
)
def test_a_context_length_is_suggested_with_its_reason(
    memory: dict[str, t.Any], skipped: list[t.Any], suggested: int | None, reason: str
) -> None:
    measured = model({1: 10.0, 2: 20.0}, skipped=skipped)
    measured["memory"].update(memory)
    found = results.suggestion(measured, 1, SETTINGS)
    assert found["context_length"] == suggested
    assert reason in found["reasons"][1]


def test_regressions_are_named() -> None:
    before, after = document(model({1: 100.0, 2: 100.0})), document(model({1: 79.0, 2: 81.0}))
    [row] = results.compare(before, after, 20)
    assert (row["figure"], row["parallel"], row["before"], row["after"]) == ("throughput", 1, 100, 79)
    assert row["text"] == "a:latest, direct, 512 tokens, 1 parallel: throughput 100 -> 79 (-21 %)"
    assert len(results.compare(before, after, 10)) == 2
    assert results.compare(after, before, 0) == []


@pytest.mark.parametrize(
    ("figure", "before", "after", "named"),
    [
        ("first_token_seconds", 0.5, 0.7, True),
        ("first_token_seconds", 0.01, 0.04, False),
        ("first_token_seconds", 0.7, 0.5, False),
        ("prompt_tokens_per_second", 100, 70, True),
        ("prompt_tokens_per_second", 70, 100, False),
        ("seconds", 1, 9, False),
    ],
)
def test_more_of_a_time_and_less_of_a_rate_are_regressions(
    figure: str, before: float, after: float, named: bool
) -> None:
    old, new = (
        document(model({}, cells=[dict(cell(1, 10.0), **{figure: results.spread([value])})]))
        for value in (before, after)
    )
    assert [row["figure"] for row in results.compare(old, new, 20)] == ([figure] if named else [])


def test_a_model_that_left_the_gpu_is_a_regression() -> None:
    before, after = model({1: 10.0}), model({1: 10.0})
    after["memory"] = dict(after["memory"], vram_share=0.0)
    [row] = results.compare(document(before), document(after), 20)
    assert row["text"] == "a:latest: share in GPU memory 1 -> 0 (-100 %)"


def test_only_like_is_compared() -> None:
    slow = document(model({1: 1.0}))
    assert results.compare(document(model({1: 10.0}), settings={"answer_tokens": 32}), slow, 20) == []
    assert results.compare(document(model({2: 10.0})), slow, 20) == []
    assert results.compare(document(model({1: 10.0}, name="b")), slow, 20) == []
    assert results.compare(document(model({}, cells=[cell(1, 10.0, way=GATEWAY)])), slow, 20) == []


# The history


def test_the_newest_readable_result_is_the_one_that_is_compared(tmp_path: Path) -> None:
    folder = str(tmp_path / "benchmarks")
    first = history.keep(folder, "dev1", document(model({1: 100.0})), 20)
    assert (first["compared_with"], first["regressions"]) == (None, [])
    second = history.keep(folder, "dev1", document(model({1: 50.0}), started="2026-01-02T03:04:06Z"), 20)
    assert second["compared_with"] == first["path"]
    assert len(second["regressions"]) == 1
    (tmp_path / "benchmarks/dev1/20270102T030405Z.json").write_text("{")
    third = history.keep(folder, "dev1", document(model({1: 10.0}), started="2027-02-02T03:04:06Z"), 20)
    assert third["compared_with"] == second["path"]
    assert json.loads(Path(third["path"]).read_text())["inventory_hostname"] == "dev1"
    newest = history.latest(folder, "dev1")
    assert newest
    assert newest["started"] == "2027-02-02T03:04:06Z"
    assert history.latest(folder, "other") is None


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"schema": 2, "models": []}', '{"schema": 1}'])
def test_a_file_that_is_no_result_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert history.load(str(tmp_path / "x.json")) is None


def test_a_result_that_was_changed_by_hand_is_not_compared(tmp_path: Path) -> None:
    folder = str(tmp_path)
    history.keep(folder, "dev1", document(model({1: 10.0})), 20)
    [path] = history.paths(folder, "dev1")
    Path(path).write_text('{"schema": 1, "models": [3], "settings": {"answer_tokens": 64}}')
    done = history.keep(folder, "dev1", document(model({1: 1.0}), started="2027-01-01T00:00:00Z"), 20)
    assert done["regressions"] == []


@pytest.mark.parametrize("host", ["..", ".", "../x", "a/../../b", "/etc", "fe80::1%eth0", "a b"])
def test_no_name_of_a_host_leads_out_of_the_directory(tmp_path: Path, host: str) -> None:
    done = history.keep(str(tmp_path / "benchmarks"), host, document(), 20)
    assert (tmp_path / "benchmarks").resolve() in Path(done["path"]).resolve().parents
    assert len(list((tmp_path / "benchmarks").iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"started": "../../group_vars/all/x"},
        {"started": "/etc/cron.d/x"},
        {"started": "2026-01-02T03:04:05Z/../../../x"},
        {"started": None},
        {"models": [{"name": "a"}]},
        {"models": [model({1: 1e999})]},
        {"models": {}},
        {"settings": None},
        {"schema": True},
    ],
)
def test_no_result_of_a_host_is_written_outside_of_its_directory_or_in_another_form(
    tmp_path: Path, change: dict[str, t.Any]
) -> None:
    """A host chooses what its module returns, and the controller reads group_vars/all/*.json as variables."""
    with pytest.raises(OllamaError) as caught:
        history.keep(str(tmp_path / "inventory/benchmarks"), "dev1", document(**change), 20)
    assert caught.value.code == "response_invalid"
    assert not list(tmp_path.iterdir())


def test_what_a_host_adds_to_a_result_is_not_written(tmp_path: Path) -> None:
    """A directory of inventories reads each file in it, and takes keys such as all.vars for its own."""
    planted = {"all": {"vars": {"x": "{{ lookup('pipe', 'id') }}"}}}
    done = history.keep(str(tmp_path), "dev1", document(model({1: 1.0}, vars=planted), **planted), 20)
    assert Path(done["path"]).read_text().count("lookup") == 0


def test_the_form_of_a_result_is_its_schema() -> None:
    schema = json.loads((ROOT / "docs/benchmark.schema.json").read_text())

    def keys(part: t.Any) -> t.Any:
        """Return the keys of a schema or of a shape, as nested mappings."""
        if isinstance(part, Required):
            return keys(part.shape)
        if isinstance(part, list):
            return keys(part[0])
        if isinstance(part, dict) and "$ref" in part:
            return keys(schema["$defs"][part["$ref"].rsplit("/", 1)[1]])
        if isinstance(part, dict) and "oneOf" in part:
            return keys(part["oneOf"][-1])
        if isinstance(part, dict) and ("type" in part or "enum" in part or "const" in part):
            return keys(part["items"]) if "items" in part else keys(part["properties"]) if "properties" in part else ""
        return {key: keys(value) for key, value in part.items()} if isinstance(part, dict) else ""

    assert keys(document_module.SHAPE) == keys(schema)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OllamaError, match="results_dir: cannot write") as caught:
        history.keep(str(tmp_path / "file"), "dev1", document(), 20)
    assert caught.value.code == "results_unwritable"


def test_the_report_has_the_newest_result_of_each_host(tmp_path: Path) -> None:
    folder = str(tmp_path)
    suggestion = {"num_parallel": 2, "context_length": None, "reasons": ["one", "two"]}
    history.keep(folder, "dev1", document(model({1: 10.0, 2: 19.0}, suggestion=suggestion)), 20)
    (tmp_path / "dev2").mkdir()
    (tmp_path / "dev2/x.json").write_text('{"schema": 1, "models": [3]}')
    found = history.for_report(folder, ["dev1", "dev2", "dev3"])
    assert set(found) == {"dev1"}
    assert found["dev1"]["measured_at"] == 1767323045
    [row] = found["dev1"]["models"]
    assert (row["name"], row["knee"], row["suggestion"]) == ("a:latest", 2, "one; two")
    assert row["runs"] == [
        {"parallel": 1, "tokens_per_second": 10.0, "first_token_seconds": 0.5},
        {"parallel": 2, "tokens_per_second": 19.0, "first_token_seconds": 0.5},
    ]
    assert len(found["dev1"]["plots"]) == 2


# Requests


def test_prompts_have_the_wanted_length_and_none_begins_like_another() -> None:
    prompts = Prompts(7)
    prompts.calibrate(48, 96)
    texts = [prompts.of(64) for _number in range(200)]
    assert {len(text.split()) for text in texts} == {32}
    assert len({" ".join(text.split()[:2]) for text in texts}) == 200
    assert len(prompts.of(1).split()) == 1
    prompts.calibrate(48, 0)
    assert prompts.tokens_per_word == 2


def test_an_error_in_a_round_leaves_the_other_requests() -> None:
    numbers = iter(range(4))

    def send() -> dict[str, float]:
        if next(numbers) == 2:
            raise OllamaError("server_busy", "busy")
        return {"seconds": 1.0}

    done = run_round(send, 4)
    assert len(done.samples) == 3
    assert [error.code for error in done.errors] == ["server_busy"]
