# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server with one model, files to build from, and the module."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._models.recipe import Shown
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
from ansible_collections.kaido.ollama.plugins.modules import model_build

from tests import standin
from tests.standin import gguf

Params = dict[str, t.Any]


class World:
    """A server with one model, files to build from, and the module."""

    def __init__(self, tmp_path: Path, server: standin.Running, run_module: t.Any) -> None:
        self.models_dir = Path(server.models_dir)
        self.state_dir = tmp_path / "state"
        self.version = server.version
        self.client = Client(server.url)
        self.uploads: list[str] = []
        self._run_module = run_module
        self.weights = tmp_path / "weights.gguf"
        # As converters make them: without the key that servers 0.30 to 0.33 add, and so with another digest afterwards.
        self.weights.write_bytes(gguf.tiny(60_000, 7, quantized=False))
        self.adapter = tmp_path / "adapter.gguf"
        self.adapter.write_bytes(gguf.tiny(9_000, 8))
        self.recipes: dict[str, Params] = {
            "from": {
                "name": "house/helper:1",
                "from": "base",
                "system": "You are hecate.",
                "parameters": {"temperature": 0.1, "stop": ["a", "b"]},
                "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
                "license": ["MIT", "Apache-2.0"],
            },
            "file": {"name": "made", "from": str(self.weights), "system": "Be kind."},
            "files": {
                "name": "made",
                "files": [str(self.weights)],
                "adapters": [str(self.adapter)],
                "template": "{{ .Prompt }}",
                "parameters": {"num_ctx": 64},
            },
        }

    def run(self, params: Params, *, check: bool = False, **more: t.Any) -> dict[str, t.Any]:
        places = {
            "api_url": self.client.base_url,
            "models_dir": str(self.models_dir),
            "state_dir": str(self.state_dir),
        }
        result: dict[str, t.Any] = self._run_module(model_build, {**places, **params, **more}, check=check)
        return result

    def tags(self) -> dict[str, str]:
        return {row["name"]: "sha256:" + row["digest"] for row in self.client.tags()}

    def create(self, **body: t.Any) -> None:
        list(self.client.create(body))

    def show(self, name: str) -> Shown:
        return Shown.of(self.client.show(parse(name)) or {})


def gguf_digest(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
