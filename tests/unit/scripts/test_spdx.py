# SPDX-License-Identifier: GPL-3.0-or-later
"""Every source file has its license."""

from __future__ import annotations

import tomllib

import pytest

from scripts import spdx


def test_each_source_file_has_the_line() -> None:
    assert [str(path.relative_to(spdx.ROOT)) for path in spdx.missing()] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"""Text."""\n', f'# {spdx.LINE}\n"""Text."""\n'),
        ("#!/bin/sh\nset -eu\n", f"#!/bin/sh\n# {spdx.LINE}\nset -eu\n"),
    ],
)
def test_line_is_added_at_the_beginning(text: str, expected: str) -> None:
    assert not spdx.has_line(text)
    assert spdx.with_line(text, "#") == expected
    assert spdx.has_line(expected)


def test_each_other_file_has_the_same_license() -> None:
    (annotation,) = tomllib.loads((spdx.ROOT / "REUSE.toml").read_text())["annotations"]
    assert annotation["path"] == "**"
    assert spdx.LINE.endswith(f" {annotation['SPDX-License-Identifier']}")
    text = spdx.ROOT / "LICENSES" / f"{annotation['SPDX-License-Identifier']}.txt"
    assert text.read_text() == (spdx.ROOT / "LICENSE").read_text()
