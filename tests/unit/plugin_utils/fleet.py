# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of an invented fleet, for the tests of the report and for `python -m tests.unit.plugin_utils.fleet PAGE`."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

from ansible_collections.kaido.ollama.plugins.module_utils._benchmark import plots, results
from ansible_collections.kaido.ollama.plugins.plugin_utils.report import build
from ansible_collections.kaido.ollama.plugins.plugin_utils.report_page import page

NOW = 1_795_720_000.0
GB = 10**9
HOSTILE = "\x1b[2J</style><script>alert(1)</script>\"'&\u202e"


def model(name: str, state: str = "verified", **more: t.Any) -> dict[str, t.Any]:
    """Return the row of a model as module host_info returns it."""
    present = state != "missing"
    return {
        "name": name,
        "alias_of": None,
        "declared": True,
        "state": state,
        "verified_at": int(NOW) - 7300 if state == "verified" else None,
        "digest": "sha256:" + f"{abs(sum(map(ord, name))):x}" * 21 + "a" if present else None,
        "size": 4 * GB if present else 0,
        "problems": [],
        "damaged_blobs": 0,
        "loaded": False,
        "memory_bytes": 0,
        "vram_bytes": 0,
        **more,
    }


def observed(*models: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    """Return the result of module host_info."""
    return {
        "observed_at": int(NOW) - 5,
        "version": "0.35.1",
        "state": "running",
        "server_failure": None,
        "listening": [{"service": "server", "address": "127.0.0.1:11434"}],
        "compute": [{"library": "CUDA", "description": "NVIDIA GeForce RTX 4090"}],
        "gpus": [{"name": "NVIDIA GeForce RTX 4090", "vram": 24 * GB}],
        "store": {
            "path": "/usr/share/ollama/.ollama/models",
            "failure": None,
            "bytes_total": 500 * GB,
            "bytes_free": 180 * GB,
            "leftovers": 0,
            "leftover_bytes": 0,
            "partials": 0,
            "partial_bytes": 0,
        },
        "models": list(models),
        "scheduled_verification": None,
        **more,
    }


def facts() -> dict[str, dict[str, t.Any]]:
    """Return the facts of hosts in every state."""
    first = observed(
        model("llama3.2:3b", loaded=True, memory_bytes=6 * GB, vram_bytes=6 * GB),
        model("chat:latest", alias_of="llama3.2:3b"),
        model("nomic-embed-text:v1.5", verified_at=int(NOW) - 9 * 86400, size=274_302_450),
        model("qwen3:32b", size=20 * GB, loaded=True, memory_bytes=22 * GB, vram_bytes=14 * GB),
        scheduled_verification={"finished_at": int(NOW) - 86400 * 3, "damaged": []},
    )
    first["listening"] += [{"service": "mirror", "address": "0.0.0.0:11480"}]
    second = observed(
        model("llama3.2:3b", "damaged", problems=["blob sha256:74701a8c35f6 has wrong content"], damaged_blobs=1),
        model("gemma3:12b", "missing"),
        model("mistral:7b", "not_checked", declared=False),
        version="0.34.3",
    )
    second["store"] = {**second["store"], "bytes_free": 20 * GB, "leftovers": 3, "leftover_bytes": 9 * GB}
    second["store"] = {**second["store"], "partials": 1, "partial_bytes": 2 * GB}
    stopped = observed(version=None, state="not_running", server_failure="connection refused", compute=[], listening=[])
    stopped["store"] = {**stopped["store"], "failure": "does not exist", "bytes_total": None, "bytes_free": None}
    return {
        "hecate": {"ollama_host_info": first},
        "dev1": {
            "ollama_host_info": second,
            "ollama__preflight": {"reasons": {"release": "installs 0.35.1"}},
            "ollama_report": {
                "version": "0.34.3",
                "compute": [],
                "models": [{"name": "gemma3:12b", "actions": ["would be pulled from registry.ollama.ai, 8.1 GB"]}],
            },
        },
        "dev2": {"ollama_host_info": stopped},
        "dev3": {"ollama_report_unreachable": "Failed to connect to the host via ssh: No route to host"},
        "dev4": {"ollama_report_failure": "ollama_models[0].name: invalid name 'Lama 3'; expected a model name"},
        "gateway": {
            "is_server": False,
            "ollama_host_info": observed(
                version=None,
                state="not_installed",
                compute=[],
                gpus=[],
                store=None,
                listening=[{"service": "gateway", "address": "0.0.0.0:11443"}],
            ),
        },
    }


RUNS = {1: (92.5, 0.11), 2: (171.0, 0.14), 4: (290.0, 0.22), 8: (299.1, 0.51)}


def benchmark() -> dict[str, t.Any]:
    """Return a result of the benchmark, as docs/benchmark.schema.json describes it."""

    def spread(value: float) -> dict[str, float]:
        return {"median": value, "min": value * 0.96, "max": value * 1.03}

    cells = [
        {
            "way": "direct",
            "prompt_tokens": 512,
            "parallel": parallel,
            "errors": 0,
            "throughput": spread(throughput),
            "seconds": spread(first * 8),
            "first_token_seconds": spread(first),
        }
        for parallel, (throughput, first) in RUNS.items()
    ]
    reason = "num_parallel: 4, since 8 parallel requests add 3 % throughput and double the latency"
    models = [{"name": "llama3.2:3b", "kind": "text", "cells": cells, "suggestion": {"reasons": [reason]}}]
    settings = {"answer_tokens": 64}
    return {"schema": 1, "started": "2026-11-25T19:06:40Z", "settings": settings, "models": models}


def benchmarks() -> dict[str, t.Any]:
    """Return the newest results of the hosts for the report."""
    return {"hecate": {**results.for_report(benchmark()), "plots": plots.plots([benchmark()])}}


def html() -> str:
    """Return the page of the fleet."""
    return page(report(), NOW, {host: row["plots"] for host, row in benchmarks().items()})


def report() -> dict[str, t.Any]:
    """Return the report of the fleet."""
    return build(facts(), check=True, now=NOW, benchmark=benchmarks())


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(html(), encoding="utf-8")
    Path(sys.argv[1]).with_suffix(".json").write_text(json.dumps(report(), indent=1), encoding="utf-8")
