# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner: loaded models with their expiry, and text that depends only on the model and the request."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import random
import threading
import time
import typing as t

from . import gguf, names, settings, store

_WORDS = [
    "the",
    "of",
    "to",
    "and",
    "in",
    "is",
    "it",
    "that",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "they",
    "at",
    "be",
]

Context = t.Callable[[gguf.Header], int]


class Busy(Exception):
    pass


class LoadError(Exception):
    """The text is that of the real server."""


class Model(t.NamedTuple):
    name: names.Name
    manifest: store.Manifest
    blob: str
    details: dict[str, t.Any]  # as ps shows them, even after the model was deleted


@dataclasses.dataclass
class Loaded:
    model: Model
    size: int
    size_vram: int
    context_length: int
    expires: float
    slots: threading.Semaphore
    active: int = 0


@dataclasses.dataclass(frozen=True)
class Answer:
    tokens: list[str]
    done_reason: str
    prompt_tokens: int


def context_length(header: gguf.Header, params: dict[str, t.Any], options: dict[str, t.Any], default: int) -> int:
    wanted = options.get("num_ctx") or params.get("num_ctx") or default or 4096
    return min(int(wanted), int(header.arch("context_length") or wanted))


def answer(manifest: store.Manifest, prompt: str, options: dict[str, t.Any], fmt: t.Any, most: int) -> Answer:
    """Return a response of `most` words, or of fewer if the options require it."""
    seed = f"{manifest.digest}\0{prompt}\0{options.get('seed', 0)}"
    rng = random.Random(hashlib.sha256(seed.encode()).digest())
    limit = int(options.get("num_predict") or -1)
    length = most if limit < 0 else min(limit, most)
    if fmt:
        words = ["{", '"answer"', ":", f'"{rng.choice(_WORDS)}"', "}"]
        length = max(length, len(words))
    else:
        words = [" " + rng.choice(_WORDS) for _index in range(most)]
        words[0], words[-1] = words[0].strip().capitalize(), "."
    tokens = words[:length]
    reason = "stop" if len(tokens) == len(words) else "length"
    return Answer(tokens, reason, 1 + len(prompt.split()) + len(prompt) // 8)


def embedding(manifest: store.Manifest, text: str, length: int) -> list[float]:
    rng = random.Random(hashlib.sha256(f"{manifest.digest}\0{text}".encode()).digest())
    vector = [rng.gauss(0, 1) for _index in range(length)]
    norm = sum(x * x for x in vector) ** 0.5
    return [round(x / norm, 7) for x in vector]


class Runner:
    def __init__(self, conf: settings.Settings) -> None:
        self._conf = conf
        self._loaded: dict[str, Loaded] = {}
        self._pending = 0
        self._lock = threading.RLock()

    def loaded(self) -> list[Loaded]:
        with self._lock:
            now = time.time()
            for key, model in list(self._loaded.items()):
                if model.expires <= now and not model.active:
                    del self._loaded[key]
            return sorted(self._loaded.values(), key=lambda model: -model.expires)

    def unload(self, digest: str) -> None:
        with self._lock:
            self._loaded.pop(digest, None)

    @contextlib.contextmanager
    def use(self, model: Model, context: Context, keep: float) -> t.Iterator[Loaded]:
        """Load the model if needed, wait for a free slot, and set the expiry when the request ends."""
        with self._lock:
            if self._pending >= self._conf.max_queue:
                raise Busy
            self._pending += 1
        try:
            loaded = self._load(model, context)
            with loaded.slots:
                loaded.active += 1
                try:
                    yield loaded
                finally:
                    with self._lock:
                        loaded.active -= 1
                        loaded.expires = time.time() + keep
                        if keep <= 0:
                            self._loaded.pop(model.manifest.digest, None)
        finally:
            with self._lock:
                self._pending -= 1

    def _load(self, model: Model, context: Context) -> Loaded:
        with self._lock:
            self.loaded()
            digest = model.manifest.digest
            if digest in self._loaded:
                return self._loaded[digest]
            try:
                header = gguf.read_header(model.blob)
            except gguf.BadGGUF as error:
                raise LoadError(str(error)) from None
            time.sleep(self._conf.load_seconds)
            length = context(header)
            size = 2 * os.path.getsize(model.blob) + 64 * length + (4611 if self._conf.plain else 6033)
            self._evict()
            vram = min(size, self._conf.gpu_mib * 1024 * 1024)
            slots = threading.Semaphore(self._conf.num_parallel)
            self._loaded[digest] = Loaded(model, size, vram, length, time.time() + 300, slots)
            return self._loaded[digest]

    def _evict(self) -> None:
        limit = self._conf.max_loaded or 3
        while len(self._loaded) >= limit:
            idle = [model for model in self._loaded.values() if not model.active]
            if not idle:
                return
            del self._loaded[min(idle, key=lambda model: model.expires).model.manifest.digest]
