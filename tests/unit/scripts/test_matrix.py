# SPDX-License-Identifier: GPL-3.0-or-later
"""The matrix of ansible-core versions: reasons of what cannot run, and the table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from scripts import matrix, sanity, tree
from tests.conftest import ROOT

PAIR = matrix.Pair("2.16", "9.9")


def test_a_pair_without_python_is_not_run() -> None:
    row = matrix.examine(PAIR, matrix.TESTS)
    assert row == matrix.Row("2.16", "9.9", dict.fromkeys(matrix.TESTS, "not run: no Python 9.9"))
    assert not row.has_failed


def test_a_pair_that_cannot_be_installed_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "find_python", lambda _version: sys.executable)
    monkeypatch.setattr(matrix, "prepare", lambda _pair, _python: "No matching distribution")
    assert set(matrix.examine(PAIR, matrix.TESTS).results.values()) == {"not run: No matching distribution"}


@pytest.mark.parametrize(("program", "result"), [("true", "pass"), ("false", "FAIL (exit 1)")])
def test_result_of_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, result: str) -> None:
    monkeypatch.setattr(matrix, "find_python", lambda _version: sys.executable)
    monkeypatch.setattr(matrix, "prepare", lambda _pair, _python: None)
    monkeypatch.setattr(matrix, "commands", lambda _pair: {test: [program] for test in matrix.TESTS})
    monkeypatch.setattr(matrix, "installed", lambda _pair: ("2.16.19", "9.9.1"))
    monkeypatch.setattr(matrix, "CACHE", tmp_path)
    monkeypatch.setattr(tree, "ROOT", tmp_path)
    PAIR.folder.mkdir()
    row = matrix.examine(PAIR, ("units", "default"))
    assert row == matrix.Row("2.16.19", "9.9.1", {"units": result, "default": result})
    assert row.has_failed == (program == "false")


def test_result_names_what_was_not_run() -> None:
    output = f"a\n{sanity.SKIPPED}pylint: https://x/y.zip cannot be downloaded\nb\n"
    assert matrix.result(0, output) == "pass, without pylint"
    assert matrix.result(1, output) == "FAIL (exit 1)"


def test_a_test_whose_requirement_cannot_be_downloaded_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "sanity.pylint.txt").write_text("astroid==1\ndill @ http://127.0.0.1:9/dill.zip#sha256=0\n")
    (tmp_path / "sanity.pep8.txt").write_text("pycodestyle==1\n")
    assert list(sanity.unavailable(tmp_path)) == ["pylint"]


def test_table() -> None:
    rows = [matrix.Row("2.16.19", "3.11.7", {"units": "pass", "sanity": "not run: no network"})]
    assert matrix.table(rows).splitlines() == [
        "| ansible-core | Python | units | sanity |",
        "|---|---|---|---|",
        "| 2.16.19 | 3.11.7 | pass | not run: no network |",
    ]


def test_pins_are_those_of_the_development_environment() -> None:
    assert all("==" in pin for pin in matrix.pins(matrix.PACKAGES))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["2.15"], "matrix: invalid value 2.15; expected 2.16, 2.19"),
        (["2.22", "3.11"], "matrix: ansible-core 2.22 does not support Python 3.11"),
    ],
)
def test_an_unknown_pair_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    assert matrix.main(arguments) == 2
    assert capsys.readouterr().err.startswith(expected)


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (["2.22"], ["2.22 3.13 units,sanity,default"]),
        (["3.12", "units"], ["2.16 3.12 units", "2.19 3.12 units", "2.21 3.12 units"]),
    ],
)
def test_arguments_select_pairs_and_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], rows: list[str]
) -> None:
    called = []

    def examine(pair: matrix.Pair, tests: tuple[str, ...]) -> matrix.Row:
        called.append(f"{pair.core} {pair.python} {','.join(tests)}")
        return matrix.Row(pair.core, pair.python, dict.fromkeys(tests, "pass"))

    monkeypatch.setattr(matrix, "CACHE", tmp_path)
    monkeypatch.setattr(matrix, "examine", examine)
    assert matrix.main(arguments) == 0
    assert called == rows


def test_continuous_integration_runs_each_pair() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    rows = workflow["jobs"]["matrix"]["strategy"]["matrix"]["include"]
    assert [(row["core"], row["python"]) for row in rows] == [(pair.core, pair.python) for pair in matrix.PAIRS]


def test_python_is_found() -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert matrix.find_python(version)
    assert matrix.find_python("9.9") is None


def test_sanity_provides_pip_for_this_ansible_test() -> None:
    assert all(version[0].isdigit() for version in sanity.pip_versions())
    assert sanity.pip_versions()
