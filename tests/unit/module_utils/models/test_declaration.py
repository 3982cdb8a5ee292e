# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of declared models: everything that an element can have, and one line for what it cannot."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._models.declaration import (
    KEYS,
    DeclaredModel,
    Demands,
    parse_models,
)
from ansible_collections.kaido.ollama.plugins.module_utils._models.lockfile import declared

HEX = "ab" * 32


def read(*items: t.Any, **options: t.Any) -> list[DeclaredModel]:
    return parse_models(items, **{"state": "present", "allow_cloud": False, **options})


def test_an_element_has_everything_that_a_model_can_be() -> None:
    template = "{{ if .System }}<|system|>{{ .System }}{{ end }}{{ .Prompt }}"
    pulled, custom, gone = read(
        {
            "name": "a",
            "state": "latest",
            "digest": HEX,
            "aliases": ["b"],
            "source": "/usb/models.tar",
            "verify": "full",
            "loaded": True,
            "keep_alive": "1h30m",
            "probe": {"gpu": True, "tokens_per_second": 12},
        },
        {"name": "c", "from": "a", "template": template, "parameters": {"num_ctx": "8192"}, "loaded": False},
        {"name": "d", "state": "absent"},
    )
    assert pulled == DeclaredModel(
        parse("a"),
        "latest",
        f"sha256:{HEX}",
        (parse("b"),),
        "/usb/models.tar",
        "full",
        None,
        True,
        5400.0,
        Demands(True, 12.0),
    )
    assert custom.recipe is not None
    assert custom.recipe.texts == {"template": template}
    assert custom.recipe.parameters == {"num_ctx": 8192}
    assert (custom.loaded, custom.keep, custom.probe) == (False, None, None)
    assert gone == DeclaredModel(parse("d"), "absent")


def test_missing_values_of_a_template_count_as_missing() -> None:
    assert read({"name": "a", **{key: None for key in KEYS if key != "name"}}) == read("a")


BAD: list[tuple[t.Any, str, str]] = [
    (
        {"name": "a", "tag": "x"},
        "model_invalid",
        "m[1]: unknown key 'tag'; expected name, state, digest, aliases, source",
    ),
    ({"nme": "a"}, "model_invalid", "m[1]: invalid value {'nme': 'a'}; expected a name, or a mapping with name"),
    (None, "model_invalid", "m[1]: invalid value None"),
    ({"name": "a", "state": "there"}, "model_invalid", "m[1].state: invalid value 'there'; expected present, latest"),
    ({"name": "a", "verify": "yes"}, "model_invalid", "m[1].verify: invalid value 'yes'; expected changed, full, none"),
    ({"name": "a", "aliases": "x"}, "model_invalid", "m[1].aliases: invalid value 'x'; expected a list"),
    ({"name": "a", "aliases": ["x y"]}, "name_invalid", "m[1].aliases"),
    ({"name": "a", "source": "usb"}, "model_invalid", "m[1].source: invalid value 'usb'; expected an absolute path"),
    ({"name": "a", "loaded": "yes"}, "model_invalid", "m[1].loaded: invalid value 'yes'; expected true or false"),
    ({"name": "a", "loaded": 1}, "model_invalid", "m[1].loaded: invalid value 1; expected true or false"),
    ({"name": "a", "keep_alive": "5m"}, "model_invalid", "m[1].keep_alive: invalid value '5m'; expected loaded: true"),
    ({"name": "a", "loaded": True, "keep_alive": "soon"}, "value_invalid", "m[1].keep_alive: invalid value 'soon'"),
    ({"name": "a", "loaded": True, "keep_alive": 0}, "model_invalid", "m[1].keep_alive: invalid value 0; expected"),
    ({"name": "a", "probe": "fast"}, "model_invalid", "m[1].probe: invalid value 'fast'; expected true, false, or"),
    ({"name": "a", "probe": {"speed": 1}}, "model_invalid", "m[1].probe: invalid value {'speed': 1}"),
    ({"name": "a", "probe": {"gpu": "all"}}, "model_invalid", "m[1].probe.gpu: invalid value 'all'"),
    (
        {"name": "a", "probe": {"tokens_per_second": -1}},
        "model_invalid",
        "m[1].probe.tokens_per_second: invalid value -1",
    ),
    (
        {"name": "a", "probe": {"tokens_per_second": "9"}},
        "model_invalid",
        "m[1].probe.tokens_per_second: invalid value '9'",
    ),
    ({"name": "a", "system": "x"}, "model_invalid", "m[1].system: invalid value 'x'; expected from or files"),
    ({"name": "a", "from": "b", "digest": HEX}, "model_invalid", "m[1].digest"),
    ({"name": "a", "from": "b", "source": "/x"}, "model_invalid", "m[1].source"),
    ({"name": "a", "from": "b", "state": "latest"}, "model_invalid", "m[1].state: invalid value 'latest'"),
    ({"name": "a", "from": "b", "files": ["/x"]}, "value_invalid", "m[1].from: invalid value 'b' with files"),
    ({"name": "a", "from": "a"}, "value_invalid", "m[1].from: invalid value 'a'; expected a model other than itself"),
    ({"name": "a", "files": ["x.gguf"]}, "value_invalid", "m[1].files: invalid value 'x.gguf'; expected an absolute"),
    (
        {"name": "a", "files": {"x": 1}},
        "value_invalid",
        "m[1].files: invalid value {'x': 1}; expected a list of strings",
    ),
    ({"name": "a", "from": "b", "parameters": [1]}, "value_invalid", "m[1].parameters: invalid value [1]"),
    ({"name": "a", "from": "b", "parameters": {"top_k": "x"}}, "value_invalid", "m[1].parameters.top_k"),
    ({"name": "a", "from": "b", "messages": [{"role": "x"}]}, "value_invalid", "m[1].messages[0]"),
    ({"name": "a", "from": "b", "template": 7}, "value_invalid", "m[1].template: invalid value 7; expected a string"),
    ({"name": "a", "state": "absent", "digest": HEX}, "model_invalid", "m[1].digest"),
    ({"name": "a", "state": "absent", "aliases": ["b"]}, "model_invalid", "m[1].aliases"),
    ({"name": "a", "state": "absent", "loaded": True}, "model_invalid", "m[1].loaded"),
    ("first", "model_duplicate", "m[1]: first:latest is already declared by m[0]"),
]


@pytest.mark.parametrize(("item", "code", "text"), BAD, ids=[text for _item, _code, text in BAD])
def test_invalid_elements_are_named_by_their_position(item: t.Any, code: str, text: str) -> None:
    with pytest.raises(OllamaError) as caught:
        read("first", item, variable="m")
    assert caught.value.code == code
    assert caught.value.message.startswith(text)


@pytest.mark.parametrize("items", ["a", {"name": "a"}, None, 7])
def test_an_invalid_list_is_refused(items: t.Any) -> None:
    with pytest.raises(OllamaError) as caught:
        parse_models(items, state="present", allow_cloud=False, variable="ollama_models")
    assert caught.value.message == f"ollama_models: invalid value {items!r}; expected a list of models"


def test_custom_models_and_bundles_need_no_lock() -> None:
    names = declared(["a", {"name": "b", "from": "a"}, {"name": "c", "source": "/x"}, {"name": "d", "state": "absent"}])
    assert [str(name) for name in names] == ["a:latest"]
