# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles against the service account and a local user: with two real user IDs, so these tests need root."""

from __future__ import annotations

import contextlib
import os
import threading
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._core.owner import Identity, acting_as

from tests.unit.conftest import RunModule
from tests.unit.module_utils.models.bundle.world import World

SERVICE = Identity(64101, 64101)


SECRET = b"only root may read this\n" * 4000


class Host(World):
    """Two stores of the service account, and what is root's alone."""

    def __init__(self, folder: Path, run_module: RunModule) -> None:
        super().__init__(folder, run_module)
        self.victim = folder / "victim"
        self.victim.mkdir(mode=0o755)
        self.secret = self.victim / "secret"
        self.secret.write_bytes(SECRET)
        self.secret.chmod(0o600)
        self.out = folder / "out"
        self.out.mkdir(mode=0o755)
        for store in (self.here, self.there):
            give(store)

    def untouched(self) -> None:
        """Assert that nothing of root's has changed."""
        assert sorted(os.listdir(self.victim)) == ["secret"]
        for path in (self.victim, self.secret):
            assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)
        assert self.secret.stat().st_mode & 0o777 == 0o600
        assert self.victim.stat().st_mode & 0o777 == 0o755
        assert self.secret.read_bytes() == SECRET


def give(path: Path) -> None:
    for item in (path, *path.rglob("*")):
        os.lchown(item, SERVICE.uid, SERVICE.gid)


def refused(result: dict[str, t.Any], *codes: str) -> None:
    assert result["failed"], result
    assert result["failure"]["code"] in codes, result
    assert result["msg"].isprintable()


@contextlib.contextmanager
def meanwhile(step: Callable[[], object]) -> Iterator[None]:
    """Let the service account do something again and again, in a thread of its own."""
    end = threading.Event()

    def work() -> None:
        with acting_as(SERVICE):
            while not end.is_set():
                with contextlib.suppress(OSError):
                    step()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


PLACES = [
    "blobs",
    "manifests",
    "manifests/registry.ollama.ai",
    "manifests/registry.ollama.ai/library",
    "manifests/registry.ollama.ai/library/tiny",
]
