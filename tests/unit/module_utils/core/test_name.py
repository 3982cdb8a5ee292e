# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of model names: what Ollama accepts, how it displays it, and that nothing else passes."""

from __future__ import annotations

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse, parse_digest
from hypothesis import given
from hypothesis import strategies as st

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("llama3.2:1b", "llama3.2:1b"),
        ("library/llama3.2", "llama3.2:latest"),
        ("registry.ollama.ai/library/llama3.2:1b", "llama3.2:1b"),
        ("ollama.com/library/llama3.2:1b", "llama3.2:1b"),
        ("REGISTRY.ollama.ai/library/x", "x:latest"),
        ("kaido/helper:1", "kaido/helper:1"),
        ("hf.co/user/repo:Q4_K_M", "hf.co/user/repo:Q4_K_M"),
        ("mirror.test:11480/library/tiny", "mirror.test:11480/library/tiny:latest"),
        ("http://mirror.test:11480/library/tiny:q8", "mirror.test:11480/library/tiny:q8"),
        ("qwen2.5-coder:7b-instruct-q4_K_M", "qwen2.5-coder:7b-instruct-q4_K_M"),
        ("_x", "_x:latest"),
        ("a" * 80 + ":" + "b" * 80, "a" * 80 + ":" + "b" * 80),
    ],
)
def test_a_name_is_read_and_shown_as_ollama_does(text: str, shown: str) -> None:
    assert str(parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        7,
        "bad name!!",
        "x:",
        ":x",
        "-x",
        ".x",
        "a/b/c/d",
        "a//b",
        "/x",
        "x/",
        "x@sha256:" + HEX,
        "name.space/model",
        "a" * 81,
        "x:" + "t" * 81,
        "x:a:b",
        "x\n",
        "ü",
        HEX,
        "x:local",
        "x:LOCAL",
    ],
)
def test_an_invalid_name_is_refused_in_one_line(text: object) -> None:
    with pytest.raises(OllamaError) as caught:
        parse(text, what="models[3].name")
    assert caught.value.code == "name_invalid"
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith("models[3].name: ")
    assert repr(text) in caught.value.message
    assert "expected" in caught.value.message or "64 hexadecimal" in caught.value.message


@pytest.mark.parametrize("text", ["gpt-oss:120b-cloud", "deepseek:cloud", "x:CLOUD"])
def test_a_cloud_tag_needs_permission(text: str) -> None:
    with pytest.raises(OllamaError, match="prompts would leave this host") as caught:
        parse(text)
    assert caught.value.code == "model_in_cloud"
    assert parse(text, allow_cloud=True).is_cloud


def test_a_tag_is_never_satisfied_by_another_that_starts_the_same() -> None:
    assert parse("llama3.2").key != parse("llama3.2:1b").key


def test_spellings_that_differ_in_case_are_one_model() -> None:
    assert parse("Kaido/Tiny:Q8").key == parse("kaido/tiny:q8").key


PART = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_-]{0,20}\Z")


@given(PART, PART, PART)
def test_what_is_shown_is_read_back_as_the_same(namespace: str, model: str, tag: str) -> None:
    try:
        name = parse(f"{namespace}/{model}:{tag}", allow_cloud=True)
    except OllamaError:
        assert tag.lower() == "local"
        return
    assert parse(str(name), allow_cloud=True) == name


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_one_clear_error(text: str) -> None:
    try:
        name = parse(text, allow_cloud=True)
    except OllamaError as exc:
        codes = {exc.code}
    else:
        codes = {"name_invalid"}
        for part in (name.host, name.namespace, name.model, name.tag):
            assert part.strip(".")
            assert "/" not in part
    assert codes == {"name_invalid"}


@pytest.mark.parametrize("text", [HEX, "sha256:" + HEX, "SHA256:" + HEX.upper(), f" {HEX} "])
def test_a_digest_has_one_form(text: str) -> None:
    assert parse_digest(text) == "sha256:" + HEX


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + HEX[:-1], "sha256:" + HEX + "0", "md5:" + HEX, "zz" * 32, None]
)
def test_what_is_no_digest_is_refused(text: object) -> None:
    with pytest.raises(OllamaError) as caught:
        parse_digest(text, what="digest")
    assert caught.value.code == "digest_invalid"
    assert repr(text) in caught.value.message
