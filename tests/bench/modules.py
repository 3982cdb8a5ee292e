# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules by themselves: each run is a process of its own, as on a managed host, against the stand-in."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client

from tests import standin
from tests.standin.registry import Registry, make_model

ROOT = Path(__file__).resolve().parents[2]
Rows = t.Iterator[tuple[str, str]]
RUNS = 5
MB = 1_000_000


def run_module(module: str, **params: t.Any) -> tuple[dict[str, t.Any], float, float]:
    """Run a module as a process; returns its result, the seconds, and the peak of its resident memory in MB."""
    # Not ru_maxrss: that counts the parent's memory until exec, too.
    code = (
        "import importlib, json, sys\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        f"module = importlib.import_module('ansible_collections.kaido.ollama.plugins.modules.{module}')\n"
        "try:\n"
        "    with patch_module_args(json.load(sys.stdin)): module.main()\n"
        "finally:\n"
        "    sys.stderr.write(next(line.split()[1] for line in open('/proc/self/status') if line[:6] == 'VmHWM:'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".cache")}
    command = [sys.executable, "-c", code]
    started = time.monotonic()
    done = subprocess.run(
        command, input=json.dumps(params), capture_output=True, text=True, env=environment, check=False
    )
    seconds = time.monotonic() - started
    result = json.loads(done.stdout)
    if result.get("failed"):
        raise SystemExit(f"{module} failed: {result['msg']}")
    return result, seconds, int(done.stderr.splitlines()[-1]) / 1024


def write_blobs(store: Path, count: int, size: int) -> None:
    """Put one model of random blobs into a store."""
    layers = {f"part{index}": random.Random(index).randbytes(size) for index in range(count)}
    make_model(store, "bench", size=100_000, layers=layers)


def verify() -> Rows:
    count, size = 8, 128 * MB
    with tempfile.TemporaryDirectory() as folder:
        store, state = Path(folder, "models"), Path(folder, "state")
        write_blobs(store, count, size)
        blobs = sorted(str(path) for path in (store / "blobs").iterdir())
        total = sum(os.path.getsize(path) for path in blobs)
        params = {"models_dir": str(store), "state_dir": str(state)}
        run_module("model_verify", **params)
        tool, full, unchanged, memory = [], [], [], []
        for _run in range(RUNS):
            started = time.monotonic()
            subprocess.run(["sha256sum", *blobs], stdout=subprocess.DEVNULL, check=True)
            tool.append(time.monotonic() - started)
            result, seconds, peak = run_module("model_verify", mode="full", **params)
            full.append(seconds)
            memory.append(peak)
            again, seconds, _peak = run_module("model_verify", **params)
            unchanged.append(seconds)
        yield f"sha256sum of {total / 1e9:.2f} GB", f"{statistics.median(tool):.2f} s"
        yield "model_verify mode=full, the whole process", f"{statistics.median(full):.2f} s"
        yield "  times the speed of sha256sum", f"{statistics.median(tool) / statistics.median(full):.1f}"
        yield "  bytes read", f"{result['hashed_bytes']}"
        yield "  peak memory", f"{max(memory):.0f} MB"
        yield "model_verify of the unchanged store, the whole process", f"{statistics.median(unchanged):.2f} s"
        yield "  bytes read", f"{again['hashed_bytes']}"


def models() -> Rows:
    medians = {}
    with tempfile.TemporaryDirectory() as folder, standin.running(models_dir=f"{folder}/models") as server:
        params = {"api_url": server.url, "models_dir": f"{folder}/models", "state_dir": f"{folder}/state"}
        names = [f"bench/m{index}" for index in range(100)]
        for index, name in enumerate(names):
            make_model(f"{folder}/models", name, size=100_000, seed=index)
        run_module("model", models=names, **params)
        for count in (0, 1, 10, 100):
            seconds = [run_module("model", models=names[:count], **params)[1] for run in range(RUNS)]
            medians[count] = statistics.median(seconds)
            yield f"one call for {count} unchanged models", f"{medians[count]:.3f} s"
        peak = run_module("model", models=names, **params)[2]
    yield "  cost of one more model", f"{(medians[100] - medians[1]) / 99 * 1000:.2f} ms"
    yield "  peak memory for 100", f"{peak:.0f} MB"


def pull() -> Rows:
    size = 200 * MB
    own: list[float] = []
    module: list[float] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        make_model(f"{folder}/upstream", "bench", size=size)
        with Registry(f"{folder}/upstream") as registry:
            # As over a line of 1 Gbit/s: with none, the loopback's speed would be measured.
            registry.misbehave("/blobs/", ranges=True, rate=62.5 * MB)
            name = f"{registry.host}/library/bench"
            for index in range(RUNS):
                for seconds, by_module in ((own, False), (module, True)):
                    with standin.running(models_dir=f"{folder}/{index}-{by_module}") as server:
                        started = time.monotonic()
                        if by_module:
                            result, _all, peak = run_module(
                                "model",
                                name=name,
                                insecure=True,
                                api_url=server.url,
                                models_dir=server.models_dir,
                                state_dir=f"{folder}/state-{index}",
                            )
                            seconds.append(result["models"][0]["seconds"])
                            memory.append(peak)
                        else:
                            api_pull(server.url, name)
                            seconds.append(time.monotonic() - started)
    yield f"the server's own pull of {size // MB} MB", f"{statistics.median(own):.2f} s"
    yield "the module's pull, hashing included", f"{statistics.median(module):.2f} s"
    yield "  speed against the server's own", f"{statistics.median(own) / statistics.median(module):.3f}"
    yield "  peak memory", f"{max(memory):.0f} MB"


def api_pull(url: str, name: str, until: t.Callable[[dict[str, t.Any]], bool] = lambda event: False) -> None:
    """Pull through the API, to the end or until `until` is true for an event; leaving cancels the download."""
    events = Client(url).pull(parse(name), insecure=True)
    for event in events:
        if until(event):
            break
    events.close()


def resume_once(folder: str, seed: int) -> float:
    """Kill a pull at half of its bytes, pull again, and return which part of the model was fetched twice."""
    size = 40 * MB
    make_model(f"{folder}/upstream-{seed}", "bench", size=size, seed=seed)
    with Registry(f"{folder}/upstream-{seed}") as registry, standin.running(models_dir=f"{folder}/{seed}") as server:
        fault = registry.misbehave("/blobs/", ranges=True, rate=20 * MB)
        name = f"{registry.host}/library/bench"
        api_pull(server.url, name, until=lambda event: event.get("completed", 0) >= size / 2)
        registry.faults.remove(fault)
        time.sleep(0.5)
        params = {"api_url": server.url, "models_dir": server.models_dir, "state_dir": f"{folder}/state-{seed}"}
        run_module("model", name=name, insecure=True, **params)
        ranged = sum(row.sent for row in registry.requests if row.range)
    return (ranged - size) / size


def resume() -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        again = [resume_once(folder, seed) for seed in range(1, RUNS + 1)]
    yield "bytes fetched twice after a kill at 50 %", f"{100 * statistics.median(again):.1f} % of the model"
