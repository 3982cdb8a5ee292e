# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The form of a result according to docs/benchmark.schema.json. Pure.

A result is created by a managed host, and its file is on the controller.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from .._core.shape import Required, Shape, conform
from . import results
from .requests import DIRECT, GATEWAY

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
_SPREAD: Shape = {"median": Required(float), "min": Required(float), "max": Required(float)}
_GPUS: Shape = [
    {
        "gpu": str,
        "utilization_ratio": float,
        "memory_used_bytes": float,
        "memory_size_bytes": float,
        "temperature_celsius": float,
        "power_watts": float,
    }
]
_CELL: Shape = {
    "way": Required((DIRECT, GATEWAY)),
    "prompt_tokens": Required(int),
    "parallel": Required(int),
    "requests": int,
    "errors": Required(int),
    "error": str,
    "measured_prompt_tokens": _SPREAD,
    "throughput": _SPREAD,
    "seconds": _SPREAD,
    "first_token_seconds": _SPREAD,
    "prompt_tokens_per_second": _SPREAD,
    "answer_tokens_per_second": _SPREAD,
}
_MODEL: Shape = {
    "name": Required(str),
    "digest": str,
    "kind": Required((results.TEXT, results.EMBEDDING)),
    "load_seconds": float,
    "memory": {
        "size": int,
        "size_vram": int,
        "vram_share": float,
        "context_length": int,
        "longest_context": int,
        "driver_bytes": int,
    },
    "estimate": {
        "estimated": int,
        "weights": int,
        "kv_cache": int,
        "overhead": int,
        "reported": int,
        "used": int,
        "estimate_error": float,
    },
    "gpus": _GPUS,
    "cells": [_CELL],
    "skipped": [{"prompt_tokens": int, "reason": str}],
    "suggestion": {"num_parallel": int, "context_length": int, "reasons": [str]},
    "failure": {"code": str, "message": str},
    "complete": bool,
}
SHAPE: Shape = {
    "schema": Required((results.SCHEMA,)),
    "inventory_hostname": str,
    "started": Required(str),
    "finished": str,
    "complete": bool,
    "server_version": str,
    "host": {
        "cpu": str,
        "cpus": int,
        "memory_bytes": int,
        "machine": str,
        "kernel": str,
        "gpus": [{"vendor": str, "name": str, "vram_bytes": int}],
    },
    "other_load": {
        "load_average": [float],
        "loaded_models": [str],
        "gpus": _GPUS,
        "requests_in_flight": int,
    },
    "settings": Required(
        {
            "parallel": [int],
            "prompt_tokens": [int],
            "answer_tokens": Required(int),
            "rounds": int,
            "time_limit": float,
            "timeout": float,
            "num_parallel": int,
        }
    ),
    "models": [_MODEL],
}


def checked(value: t.Any) -> results.Document:
    """Return a result reduced to the keys and types of its schema.

    :raises ValueError: for other values, also for an invalid time, as it becomes the name of a file.
    """
    document: results.Document = conform(value, Required(SHAPE), "benchmark")
    if not _TIME.match(document["started"]):
        raise ValueError(f"benchmark.started: invalid value {document['started'][:40]!r}; expected a time in UTC")
    return document
