# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An estimate of the GPU memory of a model: weights, KV cache and overhead. Pure, except that `read_gguf` reads a file.

The memory that `/api/ps` reports is not a basis for it: it can be less than the runner allocates (ollama#17251).

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import struct
import typing as t
from dataclasses import dataclass

from .._core.progress import human

# The size of a block of the cache in bytes, and the number of values in it.
CACHE_TYPES = {"f32": (4, 1), "f16": (2, 1), "bf16": (2, 1), "q8_0": (34, 32), "q4_0": (18, 32)}
# The runner's default number of tokens in a batch, which determines the size of its buffers.
_BATCH = 512
_FLOAT = 4
# Ollama's default context length in tokens by the total GPU memory in GiB.
_DEFAULT_CONTEXTS = ((47, 262144), (23, 32768), (0, 4096))
# Without a known architecture, context and buffers are assumed to be this share of the weights.
_UNKNOWN_SHARE = 0.1
_VARIABLES = ("OLLAMA_CONTEXT_LENGTH", "OLLAMA_NUM_PARALLEL", "OLLAMA_KV_CACHE_TYPE", "OLLAMA_GPU_OVERHEAD")
_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Longer metadata is not read, as a file of another origin could be arbitrarily large.
_MOST_KEYS, _LONGEST_TEXT, _LONGEST_ARRAY, _MOST_BYTES = 4096, 1 << 20, 1 << 21, 1 << 28


@dataclass(frozen=True)
class Architecture:
    """The properties of a model that determine the size of its KV cache and buffers."""

    values_per_token: int
    """The number of keys and values that the cache stores for a token, in all layers."""
    context_length: int
    """The longest context that the model supports, in tokens; 0 if unknown."""
    width: int
    """The number of values in the largest buffers for a token: vocabulary, feed-forward and embedding."""


@dataclass(frozen=True)
class Settings:
    """The server's settings that determine the memory of a model."""

    context_length: int = 0
    """Tokens; 0 for the default, which depends on the GPU memory."""
    parallel: int = 1
    cache_type: str = "f16"
    overhead: int = 0
    """Bytes that the server reserves on a GPU."""


@dataclass(frozen=True)
class Estimate:
    """The estimated GPU memory of a model in bytes."""

    weights: int
    kv_cache: int
    overhead: int

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.overhead


def variables(environment: t.Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a server's environment from which `settings` reads; others can contain credentials."""
    return {name: environment[name] for name in _VARIABLES if name in environment}


def settings(environment: t.Mapping[str, t.Any]) -> Settings:
    """Return the settings in a server's environment; invalid values count as not set, as the server ignores them."""

    def number(name: str, default: int) -> int:
        text = str(environment.get(name) or "").strip()
        return int(text) if text.isdecimal() and text.isascii() and len(text) < 16 else default

    cache_type = str(environment.get("OLLAMA_KV_CACHE_TYPE") or "f16").strip().lower()
    return Settings(
        number("OLLAMA_CONTEXT_LENGTH", 0),
        max(1, number("OLLAMA_NUM_PARALLEL", 1)),
        cache_type if cache_type in CACHE_TYPES else "f16",
        number("OLLAMA_GPU_OVERHEAD", 0),
    )


def architecture(metadata: t.Mapping[str, t.Any]) -> Architecture | None:
    """Return a model's architecture from its GGUF metadata or from `model_info` of /api/show; None if it is unknown.

    The server omits arrays from `model_info`. Where values are missing, the upper bound is assumed: all heads instead
    of the KV heads, and the full cache for layers with a sliding window, of which Ollama can allocate less.
    """
    prefix = str(metadata.get("general.architecture") or "")

    def values(name: str) -> list[int]:
        found = metadata.get(f"{prefix}.{name}")
        row = found if isinstance(found, (list, tuple)) else [found]
        return [value for value in row if isinstance(value, int) and not isinstance(value, bool) and value >= 0]

    def value(name: str) -> int:
        return max(values(name), default=0)

    layers, heads, embedding = value("block_count"), value("attention.head_count"), value("embedding_length")
    if not prefix or not layers or not heads or not embedding:
        return None
    kv_heads = values("attention.head_count_kv") or [heads]
    # One number for all layers, or one for each.
    total = sum(kv_heads[:layers]) if len(kv_heads) >= layers > 1 else max(kv_heads) * layers
    size = embedding // heads
    tokens = metadata.get("tokenizer.ggml.tokens")
    vocabulary = value("vocab_size") or (len(tokens) if isinstance(tokens, (list, tuple)) else 0)
    return Architecture(
        total * ((value("attention.key_length") or size) + (value("attention.value_length") or size)),
        value("context_length"),
        vocabulary + value("feed_forward_length") + 4 * embedding,
    )


def estimate(weights: int, model: Architecture | None, server: Settings, vram: int) -> Estimate:
    """Return the estimated GPU memory of a model.

    :param weights: the size of its weights in bytes.
    :param model: its architecture, None if it is unknown.
    :param vram: the GPU memory of the host in bytes, which determines the default context.
    """
    if model is None:
        return Estimate(weights, round(weights * _UNKNOWN_SHARE), server.overhead)
    tokens = context(model, server, vram) * server.parallel
    size, count = CACHE_TYPES[server.cache_type]
    cache = tokens * model.values_per_token * size // count
    return Estimate(weights, cache, _BATCH * model.width * _FLOAT + server.overhead)


def context(model: Architecture, server: Settings, vram: int) -> int:
    """Return the context length of a request in tokens, at most that of the model.

    :param vram: the GPU memory of the host in bytes.
    """
    default = next(length for least, length in _DEFAULT_CONTEXTS if vram >= least << 30)
    wanted = server.context_length or default
    return min(wanted, model.context_length) if model.context_length else wanted


def shortage(name: str, needed: Estimate, vram: int) -> str | None:
    """Return a warning about a model that does not fit into the GPU memory; None if it fits or a size is unknown.

    :param vram: the GPU memory of the host in bytes.
    """
    if not vram or not needed.weights or needed.total <= vram:
        return None
    share = 100 * (1 - vram / needed.total)
    return (
        f"{name}: requires about {human(needed.total)} of GPU memory (weights {human(needed.weights)}, "
        f"KV cache {human(needed.kv_cache)}, overhead {human(needed.overhead)}), but the host has {human(vram)}: "
        f"{share:.0f} % would run on the CPU"
    )


def compare(needed: Estimate, reported: int, used: int | None) -> dict[str, t.Any]:
    """Return an estimate together with the memory that the server and the driver report.

    :param reported: the GPU memory that the server reports, in bytes.
    :param used: the GPU memory of the server's processes in bytes; None if the driver does not report it.
    """
    return {
        "estimated": needed.total,
        "weights": needed.weights,
        "kv_cache": needed.kv_cache,
        "overhead": needed.overhead,
        "reported": reported,
        "used": used,
        "estimate_error": round(needed.total / used - 1, 3) if used else None,
    }


def read_gguf(file: t.BinaryIO) -> dict[str, t.Any]:
    """Return the metadata of a GGUF file, with arrays as lists; {} for any other or a damaged file."""
    try:
        reader = _Reader(file)
        if reader.take(4) != _MAGIC or reader.number("I") not in (2, 3):
            return {}
        reader.number("Q")
        count = reader.number("Q")
        if count > _MOST_KEYS:
            return {}
        return {reader.text(): reader.value(reader.number("I")) for _index in range(count)}
    except (ValueError, KeyError, struct.error, RecursionError, OSError):
        return {}


class _Reader:
    def __init__(self, file: t.BinaryIO) -> None:
        self._file = file
        self._left = _MOST_BYTES

    def take(self, size: int) -> bytes:
        self._left -= size
        data = self._file.read(size) if self._left >= 0 else b""
        if len(data) != size:
            raise ValueError("the metadata is incomplete or too long")
        return data

    def number(self, kind: str) -> t.Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def text(self) -> str:
        size = self.number("Q")
        if size > _LONGEST_TEXT:
            raise ValueError("a text is too long")
        return self.take(size).decode("utf-8", "replace")

    def value(self, kind: int, nested: bool = False) -> t.Any:
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        inner, count = self.number("I"), self.number("Q")
        if nested or count > _LONGEST_ARRAY:
            raise ValueError("an array is too long or nested")
        return [self.value(inner, nested=True) for _index in range(count)]
