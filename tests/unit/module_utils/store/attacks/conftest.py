# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of the store, the victim and the server."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import typing as t
from pathlib import Path

import pytest

from tests.unit.module_utils.store.attacks.server import Server
from tests.unit.module_utils.store.attacks.store import FIXTURES, SECRET, give_to_service, snapshot


@pytest.fixture(name="world")
def _world() -> t.Iterator[Path]:
    """A directory in memory that the service account can reach, with a victim of root's in it."""
    assert os.geteuid() == 0, "run the tests as root: they need two user IDs"
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="kaido-"))
    path.chmod(0o755)
    victim = path / "victim"
    (victim / "library" / "tiny").mkdir(parents=True)
    for name in ("latest", "q8", "library/tiny/latest", f"sha256-{'0' * 64}"):
        (victim / name).write_text(f"{SECRET} of root")
        (victim / name).chmod(0o600)
    before = snapshot(victim)
    try:
        yield path
        assert snapshot(victim) == before
    finally:
        shutil.rmtree(path)


@pytest.fixture(name="models_dir", params=["store-v1", "store-v2"])
def _models_dir(request: pytest.FixtureRequest, world: Path) -> Path:
    models = Path(shutil.copytree(FIXTURES / request.param, world / "srv" / "models", symlinks=True))
    for folder in (models, *filter(Path.is_dir, models.rglob("*"))):
        folder.chmod(0o750)
    give_to_service(world / "srv")
    return models


@pytest.fixture(name="server", scope="package")
def _server() -> t.Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(name="arguments")
def _arguments(world: Path, models_dir: Path, server: Server) -> dict[str, t.Any]:
    newer = (models_dir / "manifests-v2").exists()
    server.answers["/api/version"] = {"version": "0.40.2" if newer else "0.35.1"}
    return {
        "api_url": f"http://127.0.0.1:{server.server_port}",
        "models_dir": str(models_dir),
        "state_dir": str(world / "state"),
    }
