# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two stores and the modules that move a bundle between them."""

from __future__ import annotations

import hashlib
import shutil
import typing as t
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._store.store import Store
from ansible_collections.kaido.ollama.plugins.modules import model, model_export, model_import

from tests.conftest import ROOT
from tests.unit.conftest import RunModule

FIXTURES = ROOT / "tests" / "fixtures"
TINY = "sha256:955b7d0ce6491dde9bb72dc68240c1a84efb00c3d30e0601df71aae366078427"
Q8 = "sha256:e04039b2c9f3cbeba2a6fff922cd616394d1b9b84eb1c5431e7fc0b271e0485e"


class World:
    """Two stores, and the modules between them."""

    def __init__(self, folder: Path, run_module: RunModule) -> None:
        self.folder = folder
        self.here, self.there = folder / "here", folder / "there"
        self._run = run_module
        shutil.copytree(FIXTURES / "store-v1", self.here)
        self.there.mkdir(mode=0o750)

    def export_to(self, dest: str, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        params.setdefault("models_dir", str(self.here))
        return self._run(model_export, {"dest": str(self.folder / dest), **params}, check=check)

    def import_from(self, src: str, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        params = {"src": str(self.folder / src), "models_dir": str(self.there), **params}
        return self._run(model_import, {"state_dir": str(self.folder / "state"), **params}, check=check)

    def have(self, url: str, **params: t.Any) -> dict[str, t.Any]:
        """Run the module model over the second store."""
        params = {"api_url": url, "models_dir": str(self.there), "state_dir": str(self.folder / "state"), **params}
        return self._run(model, params)

    def digests(self) -> dict[str, str]:
        return {str(entry.name): entry.problem or entry.digest for entry in Store(str(self.there)).entries()}

    def written(self) -> list[str]:
        return sorted(str(path.relative_to(self.there)) for path in self.there.rglob("*"))


def flip_bit(folder: Path) -> None:
    blob = max((folder / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    body = bytearray(blob.read_bytes())
    body[-1] ^= 1
    blob.write_bytes(body)


def resum(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}\n" for p in files]
    (folder / "SHA256SUMS").write_text("".join(lines))
