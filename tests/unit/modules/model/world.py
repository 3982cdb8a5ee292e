# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model against the stand-in and a registry over real HTTP, in both generations of the store."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.modules import model

from tests import standin
from tests.standin.registry import Registry, make_model

HEX = "ab" * 32


class World:
    """A server with an empty store, an upstream registry with a few models, and the module between them."""

    def __init__(self, tmp_path: Path, version: str, run_module: t.Any) -> None:
        self.models_dir = tmp_path / "models"
        self.upstream_dir = tmp_path / "upstream"
        self.state_dir = tmp_path / "state"
        self.models_dir.mkdir()
        self.generation = 2 if version >= "0.40" else 1
        self.digests = {
            name: "sha256:" + make_model(self.upstream_dir, name, size=size, seed=seed)
            for seed, (name, size) in enumerate([("a", 40_000), ("b:1b", 90_000), ("kaido/c:q8", 50_000)])
        }
        self.upstream = Registry(self.upstream_dir)
        self._run_module = run_module
        self.server: standin.Running

    def run(
        self, *, check: bool = False, environment: dict[str, str] | None = None, **params: t.Any
    ) -> dict[str, t.Any]:
        """Run the module.

        :param environment: what the action plugin sets for the module's process.
        """
        defaults = {"api_url": self.server.url, "models_dir": str(self.models_dir), "state_dir": str(self.state_dir)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            result: dict[str, t.Any] = self._run_module(model, {**defaults, **params}, check=check)
        return result

    def fetched(self, part: str = "") -> int:
        """Return the bytes of blobs that the upstream registry sent in answer to ranges."""
        requests = [row for row in self.upstream.requests if row.range and part in row.path]
        return sum(row.sent for row in requests)

    def blob(self, part: str, name: str = "a") -> Path:
        """The file of a model's config, or of a layer by kind."""
        manifest = json.loads((self.upstream_dir / f"manifests/registry.ollama.ai/library/{name}/latest").read_bytes())
        rows = [manifest["config"]] if part == "config" else manifest["layers"]
        digest = next(row["digest"] for row in rows if part == "config" or row["mediaType"].endswith(part))
        return self.models_dir / "blobs" / digest.replace(":", "-")

    @property
    def upstream_url(self) -> str:
        return f"http://{self.upstream.host}"

    def tags(self) -> dict[str, str]:
        return {row["name"]: "sha256:" + row["digest"] for row in Client(self.server.url).tags()}


def damage(path: Path, how: str) -> None:
    size = path.stat().st_size
    if how == "flip_bit":
        with path.open("r+b") as file:
            file.seek(size // 2)
            byte = file.read(1)
            file.seek(size // 2)
            file.write(bytes([byte[0] ^ 1]))
    elif how == "truncate":
        os.truncate(path, size // 2)
    elif how == "zero":
        path.write_bytes(bytes(size))
    elif how == "remove":
        path.unlink()
