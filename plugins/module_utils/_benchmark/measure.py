# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark of a server: it measures each model, and restores the models in memory.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import time
import typing as t
from dataclasses import asdict, dataclass, replace

from .._core.errors import OllamaError, as_failure
from .._core.name import Name, parse
from .._gpu import facts, tree, usage
from .._gpu import memory as gpu_memory
from .._models.duration import FOREVER
from .._models.loaded import LoadedModels, Residency
from .._server.api import Client
from . import results
from .requests import DIRECT, TEXTS, Endpoint, Prompts, Sample, embed, generate, run_round

Row = t.Dict[str, t.Any]

# The number of words of the first prompt, whose tokens the server counts.
_CALIBRATION = 48


@dataclass(frozen=True)
class Settings:
    """The settings of a measurement.

    :ivar parallel: numbers of parallel requests.
    :ivar prompt_tokens: lengths of prompts in tokens.
    :ivar answer_tokens: the maximum length of an answer in tokens.
    :ivar rounds: the number of measurements of each combination after a warm-up.
    :ivar time_limit: the seconds after which no further measurement begins.
    :ivar timeout: the seconds that a load or a request may take.
    :ivar num_parallel: the number of requests for one model that the server processes at a time, for the suggestion.
    """

    parallel: tuple[int, ...] = (1, 2, 4, 8)
    prompt_tokens: tuple[int, ...] = (64, 512, 2048)
    answer_tokens: int = 64
    rounds: int = 3
    time_limit: float = 600.0
    timeout: float = 300.0
    num_parallel: int = 1


class _TimeOver(Exception):
    """The time limit has been reached."""


class Benchmark:
    """One run over the models of a server.

    :param endpoints: the endpoints to measure, the server itself first.
    :param root: the root of the host's file system; only tests set it.
    :param environment: the variables of the server that determine the memory of a model, for the estimate.
    """

    def __init__(
        self,
        client: Client,
        endpoints: t.Sequence[Endpoint],
        settings: Settings,
        run: tree.Run = tree.run_program,
        root: str = "/",
        environment: t.Mapping[str, t.Any] | None = None,
    ) -> None:
        self._environment = environment or {}
        self.client, self.endpoints, self.settings = client, endpoints, settings
        self._run, self._root = run, root
        self._end = time.monotonic() + settings.time_limit
        self._gpus = facts.gather(root, run).gpus
        self._prompts = Prompts(time.time_ns() >> 20)
        self.loaded = LoadedModels(client, timeout=settings.timeout)
        self.warnings: list[str] = []

    def run(self, names: t.Sequence[Name]) -> results.Document:
        """Measure the models, and return the document. The row of a model that fails contains its failure.

        :raises OllamaError: ``model_missing`` for models that are not installed, before anything is loaded.
        """
        self.loaded.require(names)
        version = self.client.version()
        before = {row["name"]: Residency.of(row) for row in self.client.running()}
        document: results.Document = {
            "schema": results.SCHEMA,
            "started": _now(),
            "server_version": version,
            "host": self._host(),
            "other_load": self._other_load(before),
            "settings": _lists(asdict(self.settings)),
            "models": [],
        }
        try:
            for number, name in enumerate(names):
                left = self._end - time.monotonic()
                document["models"].append(self._model(name, time.monotonic() + left / (len(names) - number)))
        finally:
            self._restore(names, before)
        document["finished"] = _now()
        document["complete"] = all(row["complete"] for row in document["models"])
        return document

    def _host(self) -> Row:
        return {
            "cpu": _cpu(os.path.join(self._root, "proc/cpuinfo")),
            "cpus": os.cpu_count() or 1,
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "machine": platform.machine(),
            "kernel": platform.release(),
            "gpus": [{"vendor": gpu.vendor, "name": gpu.name, "vram_bytes": gpu.vram} for gpu in self._gpus],
        }

    def _other_load(self, before: t.Mapping[str, Residency]) -> Row:
        return {
            "load_average": [round(value, 2) for value in os.getloadavg()],
            "loaded_models": sorted(before),
            "gpus": self._usage(),
            # Ollama does not report their number.
            "requests_in_flight": None,
        }

    def _usage(self) -> list[Row]:
        """Return the current metrics of the drivers; [] if there are none."""
        try:
            rows = usage.read(self._gpus, self._root, self._run)
        except OllamaError as exc:
            if exc.message not in self.warnings:
                self.warnings.append(exc.message)
            return []
        return [{"gpu": row.gpu, **row.figures} for row in rows]

    def _model(self, name: Name, end: float) -> Row:
        row: Row = {
            "name": str(name),
            "digest": self.loaded.installed[name.key].get("digest"),
            "kind": results.TEXT,
            "load_seconds": None,
            "memory": None,
            "estimate": None,
            "gpus": [],
            "cells": [],
            "skipped": [],
            "suggestion": None,
            "failure": None,
            "complete": False,
        }
        try:
            if end <= time.monotonic():
                raise _TimeOver
            self._load(name, row, end)
            for endpoint in self.endpoints:
                with self._warning(f"{name}, {endpoint.way}") if endpoint.way != DIRECT else contextlib.nullcontext():
                    self._warm_up(endpoint, name, row, end)
                    self._cells(endpoint, name, row, end)
            row["complete"] = True
        except _TimeOver:
            pass
        except OllamaError as exc:
            row["failure"] = {"code": exc.code, "message": exc.message}
        except OSError as exc:
            failure = as_failure(exc)
            row["failure"] = {"code": failure.code, "message": failure.message}
        if row["kind"] == results.TEXT and row["cells"]:
            row["suggestion"] = results.suggestion(row, self.settings.num_parallel, _lists(asdict(self.settings)))
        return row

    def _load(self, name: Name, row: Row, end: float) -> None:
        """Load a model; one in memory is loaded again, as only that shows how long it takes."""
        self.loaded.timeout = max(1.0, min(self.settings.timeout, end - time.monotonic()))
        if self.loaded.residency(name).loaded:
            self.loaded.unload(name)
        used = _memory_used(self._usage())
        started = time.monotonic()
        embeds = self.loaded.load(name, self._keep())
        row["load_seconds"] = round(time.monotonic() - started, 3)
        row["kind"] = results.EMBEDDING if embeds else results.TEXT
        memory = self.loaded.residency_after_load(name)
        now = _memory_used(self._usage())
        row["memory"] = {
            "size": memory.size,
            "size_vram": memory.size_vram,
            "vram_share": memory.vram_share,
            "context_length": memory.context_length,
            "longest_context": (self.loaded.installed[name.key].get("details") or {}).get("context_length"),
            # The increase of the memory that the driver reports.
            "driver_bytes": None if None in (used, now) else max(0, t.cast("int", now) - t.cast("int", used)),
        }
        row["estimate"] = self._estimate(name, memory, row["memory"]["driver_bytes"])

    def _estimate(self, name: Name, memory: Residency, driver_bytes: int | None) -> Row | None:
        """Return the estimated GPU memory of a model with its error; None for a model on the CPU."""
        if not memory.size_vram:
            return None
        found = (self.client.show(name) or {}).get("model_info")
        model = gpu_memory.architecture(found if isinstance(found, dict) else {})
        settings = replace(
            gpu_memory.settings(self._environment),
            parallel=self.settings.num_parallel,
            context_length=memory.context_length or 0,
        )
        needed = gpu_memory.estimate(self.loaded.installed[name.key].get("size", 0), model, settings, 0)
        return gpu_memory.compare(needed, memory.size_vram, driver_bytes if memory.size_vram == memory.size else None)

    def _keep(self) -> float:
        # If the benchmark is killed, the model does not stay in memory forever.
        return self.settings.time_limit + self.settings.timeout

    def _warm_up(self, endpoint: Endpoint, name: Name, row: Row, end: float) -> None:
        """Send a request that is not measured; its number of tokens calibrates the prompts."""
        prompt = self._prompts.words(_CALIBRATION)
        done = run_round(lambda: self._send(endpoint, name, row["kind"], prompt, end), 1)
        self._check(done.errors, end)
        if done.errors:
            raise done.errors[0]
        texts = done.samples[0].get("texts", 1)
        self._prompts.calibrate(_CALIBRATION, done.samples[0]["prompt_tokens"] / texts)
        if endpoint.way == DIRECT:
            row["gpus"] = self._usage()

    def _send(self, endpoint: Endpoint, name: Name, kind: str, prompt: str, end: float) -> Sample:
        body: Row = {"model": str(name)}
        if endpoint.way == DIRECT:
            # Through a gateway, another server may answer, on which the residency of the model must not change.
            body["keep_alive"] = f"{self._keep():.0f}s"
        if kind == results.EMBEDDING:
            texts = [prompt] + [self._prompts.words(len(prompt.split())) for _number in range(TEXTS - 1)]
            return embed(endpoint, dict(body, input=texts), self.settings.timeout, end)
        options = {"temperature": 0, "seed": 42, "num_predict": self.settings.answer_tokens}
        return generate(endpoint, dict(body, prompt=prompt, raw=True, options=options), self.settings.timeout, end)

    def _cells(self, endpoint: Endpoint, name: Name, row: Row, end: float) -> None:
        context = row["memory"]["context_length"]
        for tokens in self.settings.prompt_tokens:
            answer = self.settings.answer_tokens if row["kind"] == results.TEXT else 0
            if context and tokens + answer > context:
                skipped = {"prompt_tokens": tokens, "reason": f"longer than the context of {context} tokens"}
                row["skipped"] += [skipped] if skipped not in row["skipped"] else []
                continue
            for parallel in self.settings.parallel:
                rounds = []
                for _number in range(self.settings.rounds):
                    done = run_round(
                        lambda tokens=tokens: self._send(  # type: ignore[misc]
                            endpoint, name, row["kind"], self._prompts.of(tokens), end
                        ),
                        parallel,
                    )
                    self._check(done.errors, end)
                    rounds.append(done)
                row["cells"].append(results.cell(endpoint.way, tokens, parallel, rounds))

    def _check(self, errors: t.Sequence[OllamaError], end: float) -> None:
        """Raise _TimeOver if requests failed because of the time limit; such a round does not count."""
        if errors and time.monotonic() >= end:
            raise _TimeOver

    def _restore(self, names: t.Sequence[Name], before: t.Mapping[str, Residency]) -> None:
        """Unload models that were not in memory before, and load those that were; errors become warnings."""
        self.loaded.timeout = self.settings.timeout
        kept = {key: memory for key, memory in before.items() if memory.forever or memory.expires > time.time()}
        for name in names:
            with self._warning(f"{name}, not in memory as before"):
                if str(name) not in kept and self.loaded.residency(name).loaded:
                    self.loaded.unload(name)
        measured = {str(name) for name in names}
        for text, memory in kept.items():
            with self._warning(f"{text}, not in memory as before"):
                name = parse(text, allow_cloud=True)
                if text in measured or not self.loaded.residency(name).loaded:
                    self.loaded.load(name, FOREVER if memory.forever else max(1.0, memory.expires - time.time()))

    @contextlib.contextmanager
    def _warning(self, what: str) -> t.Iterator[None]:
        """Convert an error to a warning."""
        try:
            yield
        except OllamaError as exc:
            self.warnings.append(f"{what}: {exc.message}")


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lists(settings: Row) -> Row:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _memory_used(rows: t.Sequence[Row]) -> int | None:
    known = [row["memory_used_bytes"] for row in rows if "memory_used_bytes" in row]
    return int(sum(known)) if known else None


def _cpu(path: str) -> str | None:
    """Return the name of the first CPU."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _colon, value = line.partition(":")
            if key.strip().lower() in ("model name", "hardware", "cpu model"):
                return value.strip()[:100]
    return None
