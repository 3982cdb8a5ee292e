# SPDX-License-Identifier: GPL-3.0-or-later
"""The estimate of a model's GPU memory, from metadata of models and settings of servers."""

from __future__ import annotations

import io
import struct
import types
import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import Name, parse
from ansible_collections.kaido.ollama.plugins.module_utils._gpu import memory
from ansible_collections.kaido.ollama.plugins.module_utils._models import converge as converge_module

from tests.conftest import ROOT

MODELS = ROOT / "tests/fixtures/models"
GIB = 1 << 30
# Llama 3.1 8B and Gemma 3 style metadata as /api/show returns it: without arrays.
LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336,
    "llama.context_length": 131072,
    "llama.vocab_size": 128256,
}
WEIGHTS = 4_900_000_000


def llama(**more: t.Any) -> memory.Architecture:
    model = memory.architecture({**LLAMA, **{f"llama.{name.replace('__', '.')}": more[name] for name in more}})
    assert model
    return model


@pytest.mark.parametrize("name", ["words.gguf", "words-embed.gguf"])
def test_the_metadata_of_a_real_file_is_read(name: str) -> None:
    with (MODELS / name).open("rb") as file:
        metadata = memory.read_gguf(file)
    assert metadata["general.architecture"] == "llama"
    assert metadata["tokenizer.ggml.tokens"][:3] == ["<unk>", "<s>", "</s>"]
    model = memory.architecture(metadata)
    assert model
    # Two layers, four heads of 16 values, for keys and for values.
    assert model.values_per_token == 2 * 4 * 2 * 16
    assert model.context_length == 256
    assert model.width == 127 + 128 + 4 * 64


def gguf(body: bytes, keys: int = 1) -> io.BytesIO:
    return io.BytesIO(b"GGUF" + struct.pack("<IQQ", 3, 0, keys) + body)


KEY = struct.pack("<Q", 1) + b"k"
DAMAGED = {
    "empty": io.BytesIO(b""),
    "another format": io.BytesIO(b"<!DOCTYPE html><html></html>"),
    "unknown version": io.BytesIO(b"GGUF" + struct.pack("<IQQ", 9, 0, 0)),
    "cut off": gguf(KEY),
    "too many keys": gguf(b"", keys=1 << 60),
    "a long text": gguf(KEY + struct.pack("<IQ", 8, 1 << 60)),
    "a long array": gguf(KEY + struct.pack("<IIQ", 9, 4, 1 << 60)),
    "a nested array": gguf(KEY + struct.pack("<IIQIQ", 9, 9, 1, 9, 1)),
    "an unknown type": gguf(KEY + struct.pack("<I", 77)),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_has_no_metadata(case: str) -> None:
    assert memory.read_gguf(DAMAGED[case]) == {}


@pytest.mark.parametrize(
    ("cache_type", "parallel", "expected"),
    [
        # 8192 tokens x 32 layers x 8 heads x (128 + 128) values x 2 bytes = 1 GiB
        ("f16", 1, GIB),
        ("f16", 4, 4 * GIB),
        ("f32", 1, 2 * GIB),
        ("q8_0", 1, GIB * 34 // 64),
        ("q4_0", 2, 2 * GIB * 18 // 64),
    ],
)
def test_the_cache_grows_with_context_parallel_requests_and_type(cache_type: str, parallel: int, expected: int) -> None:
    server = memory.Settings(8192, parallel, cache_type)
    assert memory.estimate(WEIGHTS, llama(), server, 24 * GIB).kv_cache == expected


@pytest.mark.parametrize(
    ("context", "vram", "model", "expected"),
    [
        (0, 8 * GIB, llama(), 4096),
        (0, 24 * GIB, llama(), 32768),
        (0, 80 * GIB, llama(), 131072),
        (16384, 8 * GIB, llama(), 16384),
        (1 << 20, 8 * GIB, llama(), 131072),
        (1 << 20, 8 * GIB, llama(context_length=0), 1 << 20),
    ],
)
def test_the_context_is_that_of_the_settings_or_the_default_of_ollama(
    context: int, vram: int, model: memory.Architecture, expected: int
) -> None:
    assert memory.context(model, memory.Settings(context), vram) == expected


@pytest.mark.parametrize(
    ("changed", "values"),
    [
        ({}, 32 * 8 * 256),
        # The server omits arrays: the number of all heads is the upper bound.
        ({"attention__head_count_kv": None}, 32 * 32 * 256),
        ({"attention__head_count_kv": [8] * 16 + [0] * 16}, 16 * 8 * 256),
        ({"attention__key_length": 64, "attention__value_length": 32}, 32 * 8 * 96),
        ({"attention__head_count_kv": 1, "attention__key_length": 576, "attention__value_length": 512}, 32 * 1088),
    ],
)
def test_heads_of_keys_and_values_determine_the_cache(changed: dict[str, t.Any], values: int) -> None:
    assert llama(**changed).values_per_token == values


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"general.architecture": "llama"},
        {"general.architecture": ["llama"]},
        {**LLAMA, "llama.block_count": "many"},
        {**LLAMA, "llama.block_count": True},
        {**LLAMA, "llama.attention.head_count": 0},
        {**LLAMA, "llama.embedding_length": -1},
        {**LLAMA, "general.architecture": "other"},
    ],
)
def test_unusable_metadata_has_no_architecture(metadata: dict[str, t.Any]) -> None:
    assert memory.architecture(metadata) is None


def test_settings_come_from_the_environment_of_the_server() -> None:
    environment = {
        "OLLAMA_CONTEXT_LENGTH": "65536",
        "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_KV_CACHE_TYPE": "Q8_0",
        "OLLAMA_GPU_OVERHEAD": "1073741824",
        "HTTPS_PROXY": "http://user:secret@proxy",
    }
    assert memory.settings(environment) == memory.Settings(65536, 4, "q8_0", GIB)
    assert "HTTPS_PROXY" not in memory.variables(environment)
    assert memory.settings(memory.variables(environment)) == memory.settings(environment)
    bad = dict.fromkeys(environment, "-1")
    assert memory.settings(bad) == memory.settings({}) == memory.Settings()


def test_a_model_that_does_not_fit_is_reported_with_its_parts() -> None:
    needed = memory.estimate(WEIGHTS, llama(), memory.Settings(131072), 16 * GIB)
    assert needed.kv_cache == 16 * GIB
    message = memory.shortage("llama3.1:8b", needed, 16 * GIB)
    assert message
    assert message.startswith("llama3.1:8b: requires about 22.")
    assert "(weights 4.9 GB, KV cache 17.2 GB, overhead " in message
    assert "but the host has 17.2 GB: " in message
    assert memory.shortage("llama3.1:8b", memory.estimate(WEIGHTS, llama(), memory.Settings(), 0), 16 * GIB) is None


@pytest.mark.parametrize(
    ("size", "vram", "expected"),
    [
        (19_100_000_000, 16_000_000_000, "but the host has 16.0 GB: 24 % would run on the CPU"),
        (10_000_000_000, 16_000_000_000, None),
        (10_000_000_000, 0, None),
        (0, 16_000_000_000, None),
    ],
)
def test_without_an_architecture_a_tenth_of_the_weights_is_added(size: int, vram: int, expected: str | None) -> None:
    found = memory.shortage("m:1", memory.estimate(size, None, memory.Settings(), vram), vram)
    assert expected in found if expected and found else found == expected


def test_an_estimate_is_compared_with_the_reports_of_server_and_driver() -> None:
    """The memory that the server reports can be far less than that in use: ollama#17251."""
    needed = memory.Estimate(20 * GIB, 9 * GIB, GIB)
    found = memory.compare(needed, reported=23 * GIB, used=25 * GIB)
    assert (found["estimated"], found["reported"], found["used"]) == (30 * GIB, 23 * GIB, 25 * GIB)
    assert found["estimate_error"] == 0.2
    assert memory.compare(needed, 23 * GIB, None)["estimate_error"] is None


class FakeStore:
    """A store with one version of a model, whose weights are a file of the fixtures."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem

    def find(self, _name: Name) -> t.Any:
        blobs = [types.SimpleNamespace(digest=digest, size=size) for digest, size in (("small", 9), ("weights", 400))]
        return types.SimpleNamespace(blobs=blobs)

    def open_blob(self, digest: str) -> t.BinaryIO:
        if self.problem:
            raise self.problem
        assert digest == "weights"
        return (MODELS / "words.gguf").open("rb")


@pytest.mark.parametrize(
    ("store", "known"),
    [
        (FakeStore(), True),
        (FakeStore(OSError("no access")), False),
        (FakeStore(OllamaError("store_unsafe", "a link")), False),
        (None, False),
    ],
)
def test_the_architecture_before_a_pull_is_that_of_the_version_on_the_host(store: t.Any, known: bool) -> None:
    options = types.SimpleNamespace(vram=400_000, gpu_settings=memory.Settings(256, 8))
    models = t.cast("t.Any", types.SimpleNamespace(store=store, options=options))
    message = converge_module._shortage(models, parse("words"), 400_000)
    assert message
    # 256 tokens for each of 8 requests, 256 values of 2 bytes for a token; or a tenth of the weights.
    assert f"KV cache {'1.0 MB' if known else '40.0 kB'}, " in message
