# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish releases in the lab's mirror that are broken in a way that no checksum shows; print their checksums.

0.35.7 fills a small disk when it is unpacked, 0.35.9 is complete and reports its version, but does not start.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import yaml

from tests.lab import CACHE, releases
from tests.standin import build

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
SILENT = b'#!/bin/sh\n[ "$1" = --version ] && echo "Warning: client version is 0.35.9" && exit\nexit 1\n'


def publish(root: Path, version: str, files: list[tuple[str, bytes, int]]) -> str:
    data = releases.compress(releases.tarball(files))
    folder = root / f"v{version}"
    folder.mkdir(parents=True, exist_ok=True)
    releases.replace(folder / releases.archive_name(ARCHITECTURE), data)
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    lab = CACHE / f"molecule-{os.environ['MOLECULE_SCENARIO_NAME']}"
    root = lab / "releases"
    inventory = yaml.safe_load((lab / "inventory" / "hosts.yml").read_text())
    huge = ("lib/ollama/huge", bytes(inventory["ollama_servers"]["vars"]["lab_releases_disk"]), 0o644)
    sums = {
        "0.35.7": [*releases.members("0.35.7", ARCHITECTURE, build.archive("0.35.7")), huge],
        "0.35.9": releases.members("0.35.9", ARCHITECTURE, SILENT),
    }
    print(json.dumps({version: publish(root, version, files) for version, files in sums.items()}))


main()
