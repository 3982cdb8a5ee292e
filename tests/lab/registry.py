# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The depot's model store: models that real servers load and run, two of 400 KB and others of any size above that."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from tests.standin.registry import make_model

from . import LabError
from .releases import sha256

# Name -> layers beside the weights, which are those of tests/fixtures/models.
DEPOT: dict[str, dict[str, bytes]] = {"tiny:latest": {}, "kaido/tiny2:q8": {"system": b"You are hecate."}}
MODEL = re.compile(r"([a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*:[a-z0-9][a-z0-9._-]*")
SIZE = re.compile(r"([1-9][0-9]*)([KMG]?)")
FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def check(name: str, size: str) -> None:
    if not MODEL.fullmatch(name):
        raise LabError(f"model {name!r} is not allowed: give [NAMESPACE/]MODEL:TAG")
    if not SIZE.fullmatch(size):
        raise LabError(f"model {name!r} wants size {size!r}: give bytes, or a number with K, M or G")


def bytes_of(size: str) -> int:
    found = SIZE.fullmatch(size)
    assert found
    return int(found[1]) * FACTORS[found[2]]


def fill(store: Path, models: dict[str, str]) -> None:
    """Restore the store to its initial state, also files that a test damaged."""
    for blob in (store / "blobs").glob("sha256-*"):
        if sha256(blob) != blob.name.removeprefix("sha256-"):
            blob.unlink()
    # The seed is the name's, so that a model's digest does not depend on which others there are.
    for name, layers in DEPOT.items():
        make_model(store, name, seed=zlib.crc32(name.encode()), layers=layers)
    for name, size in models.items():
        make_model(store, name, at_least=bytes_of(size), seed=zlib.crc32(name.encode()))
