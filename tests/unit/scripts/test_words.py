# SPDX-License-Identifier: GPL-3.0-or-later
"""The check for words that are not standard English of the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import words

NONSTANDARD = [
    "the door of the gateway",
    "systemd reads its units anew",
    "a bare host",
    "twice is nothing",
    "the store is sound",
    "the process to whom it belongs",
    "the mirror's word",
    "the server said no",
    "0 is not allowed; allowed is 1",
    "a message for people",
    "the state in words",
    "the link is flipped",
    "the wish of the operator",
    "looks whether it is complete",
    "speaks plain HTTP",
    "as the user is told",
    "requests a second",
    "the release to go back to",
    "RHEL and its kin",
]
STANDARD = [
    "the indoor sensor",
    "the server returned 404",
    "invalid value 0; expected at least 1",
    "a sound card",
    "hereafter, where others were",
    "look up the address",
    "a human-readable message",
    "for word in words:",
]


@pytest.mark.parametrize("line", NONSTANDARD)
def test_word_is_found_with_its_line_and_the_standard_term(line: str) -> None:
    found = list(words.findings("page.md", f"first\n{line}\n"))
    assert {number for number, _word, _term in found} == {2}
    assert all(word in line and term for _number, word, term in found)


@pytest.mark.parametrize("line", STANDARD)
def test_standard_english_is_not_found(line: str) -> None:
    assert list(words.findings("page.md", line)) == []


@pytest.mark.parametrize(
    "name", ["a_full_disk_is_told_first", "look_at_a_host", "nobody_there", "a_bare_host", "it_goes_back", "bad_input"]
)
def test_name_of_a_test_is_standard_english(name: str) -> None:
    found = list(words.findings("tests/unit/test_x.py", f"\n    def test_{name}(self) -> None:"))
    assert {number for number, _word, _term in found} == {2}
    assert list(words.findings("tests/unit/test_x.py", "def test_a_failed_look_up_is_reported() -> None:")) == []


@pytest.mark.parametrize("verb", ["Have", "Say", "Tell", "Ask", "Look", "See", "Let", "Keep", "Take", "Prove", "What"])
@pytest.mark.parametrize("form", ["- name: {} it", '  - name: "{} it"', "- name: Role | {} it", "  name: {} it"])
def test_name_of_a_task_begins_with_a_standard_verb(verb: str, form: str) -> None:
    assert list(words.findings("tasks/main.yml", form.format(verb)))
    assert not list(words.findings("tasks/main.yml", form.format("Install")))
    assert not list(words.findings("page.md", form.format(verb)))


def test_only_texts_of_the_project_are_checked() -> None:
    files = words.files()
    assert {"README.md", "Makefile", "roles/ollama/tasks/main.yml"} <= {*files}
    assert not [name for name in files if "fixtures" in name or name == "scripts/words.py"]


def test_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.md"
    path.write_text("the gateway\n")
    assert words.main([str(path)]) == 0
    path.write_text("the door\n")
    assert words.main([str(path)]) == 1
    assert capsys.readouterr().out == f"{path}:1: 'door': gateway, reverse proxy\n"
