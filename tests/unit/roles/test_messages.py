# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of the roles and playbooks are one line."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
FILES = sorted(path for top in ("roles/*/tasks", "roles/*/handlers", "playbooks") for path in ROOT.glob(f"{top}/*.yml"))


def messages(value: t.Any) -> t.Iterator[str]:
    """Return the texts of all keys `msg` and `fail_msg`."""
    if isinstance(value, list):
        for item in value:
            yield from messages(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("msg", "fail_msg") and isinstance(item, str):
                yield item
            else:
                yield from messages(item)


def is_one_line(message: str) -> bool:
    return "\n" not in _JINJA.sub("", message.strip())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_message_is_one_line(path: Path) -> None:
    assert [text for text in messages(yaml.safe_load(path.read_text())) if not is_one_line(text)] == []


def test_folding_keeps_the_line_after_indented_ones() -> None:
    (text,) = messages(yaml.safe_load("msg: >-\n  {{ 1\n     + 2 }}\n  text\n"))
    assert not is_one_line(text)
    (text,) = messages(yaml.safe_load("msg: >-\n  {{ 1\n     + 2\n  }} text\n"))
    assert is_one_line(text)
