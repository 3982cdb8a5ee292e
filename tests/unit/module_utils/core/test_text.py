# SPDX-License-Identifier: GPL-3.0-or-later
"""Text of others in messages and results: no terminal obeys it, no credential is in it, one line, always a code."""

from __future__ import annotations

import errno
import json
import os
import typing as t

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import errors
from ansible_collections.kaido.ollama.plugins.module_utils._core import text as text_module
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fake_module import Module

SECRET = "s3cr%t"
URLS = [
    "https://ci:{}@artifacts.lan/ollama",
    "https://{}@artifacts.lan/ollama",
    "http://ci:{}/x@artifacts.lan:8081/ollama",
    "http://ci:a@{}@artifacts.lan",
    "http://ci:{}?x@artifacts.lan",
    "http://ci:{}#x@[::1]:80",
    "socks5h://u:{}@h:1080",
    "u:{}@proxy.lan:3128",
    "https://h/v2/x?token={}",
    "https://h/v2/x?a=b&X-Amz-Signature={}&c=d#e",
    "https://h/v2/x?{}",
    "https://u:{}@registry.lan/team/model:1",
    "u:{}@registry.lan/team/model:1",
    "u:{}@x:y@h",
    "u:x@{}:y@h",
    "u:x@y:{}@h",
    "u:x:{}:y@h:3128",
    "u:{}/x@h:3128",
    "u:/{}@h",
    "u%3A{}@h",
    "u%3a{}%40x@h",
    "me@corp.lan:{}@proxy.lan:3128",
    "CORP\\me:{}@proxy.lan",
    "//u:{}@h",
    "//u:x@{}@h/v2",
    "//u:x/{}@h/v2",
    "//{}@h",
    "http://u:x/y@{}@h/z",
    "http://u:x'{}@h",
    'http://u:x"{}@h',
    "http://u%40corp:{}@h",
    "http://{}:x-oauth-basic@h",
    "HTTP://U:{}@H",
    "git+ssh://u:{}@h/x.git",
    "http://u:{}@[fe80::1]:8080/x?y",
    "https://h/login?next=http%3A%2F%2Fu%3A{}%40h",
    "http%3A%2F%2Fu%3A{}%40h",
    "https://h/x?a=1;token={}",
    "https://h/x?token='{}'",
    'https://h/x?token="{}"',
    "https://h/x?token=a'{}",
    "https://h/x?token=a,{}",
    "https://h/x#access_token={}",
    "https://h/x?a=b#id_token={}&c=d",
    "h.lan/x?token={}",
    "//h/x?sig={}",
    "/v2/x?a=b&X-Amz-Credential={}",
]
FRAMES = [
    "{}",
    "cannot reach {}: refused",
    "base_url: {!r}: invalid",
    "<{}>",
    "HTTPS_PROXY={}",
    "a {0} and {0}, too",
    '{{"proxy":"{}"}}',
    "proxyconnect tcp: dial {}",
]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("url", URLS)
def test_credentials_are_in_no_text(url: str, frame: str) -> None:
    text = frame.format(url.format(SECRET))
    failure = OllamaError("x", text, url=text, nested=[{"a": (text,)}])
    assert SECRET not in str(failure)
    assert SECRET not in json.dumps(failure.to_fail_json())
    assert "***" in failure.message


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/path@1.2 is there",
        "https://hub.lan/@scope/model",
        "llama3:8b@sha256:abcd is not a model name",
        "registry.lan:5000/a/b:c",
        "http://[::1]:11434/api/tags",
        "mail admin@host.lan",
        "2.0 GB of 3.0 GB, 12:30 left",
        "did you mean x? y=z",
        "h:8080/path@1.2",
        "registry.lan:5000/a/b@sha256:abcd",
        "http://h/a and admin@h",
        '{"registry":"http://h:1","mail":"a@b"}',
        "git@github.com:org/repo",
        "what? no",
        "https://h/a#part",
        "dir//name@2",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert text_module.message(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://u:{0}@a,http://u:{0}@b",
        "u:{0}@a,u:{0}@b;u:{0}@c",
        "http://u:{0}@a or u:{0}@b, //u:{0}@c and https://d/?token={0}&x=1",
        "[http://u:{0}@a][u:{0}@b](//u:{0}@c)",
        "http://u:{0}@a|u:{0}@b",
        "{{'http_proxy': 'u:{0}@a', 'https_proxy': '//u:{0}@b'}}",
    ],
)
def test_several_urls_in_one_text(text: str) -> None:
    assert SECRET not in text_module.redact(text.format(SECRET))


def test_the_rest_of_a_url_stays() -> None:
    assert text_module.redact("u:p@ss:w@h:3128 is down") == "***@h:3128 is down"
    assert text_module.redact("//user:pw@h/x") == "//***@h/x"
    assert text_module.redact("https://u:p@h/x?a=1&b=2#c") == "https://***@h/x?a=***&b=***#c"
    assert text_module.redact("/v2/x?token=abc is refused") == "/v2/x?token=*** is refused"


def test_a_header_is_no_message() -> None:
    assert SECRET not in text_module.message(f"sent Authorization: Bearer {SECRET}")
    assert SECRET not in text_module.message(f'"proxy-authorization": "Basic {SECRET}"')


@given(st.text())
def test_a_message_is_one_printable_line(text: str) -> None:
    message = OllamaError("x", text).message
    assert "\n" not in message
    assert not any(text_module._CONTROL.search(character) for character in message)
    message.encode()


def test_controls_become_visible() -> None:
    assert text_module.printable("\x1b[2J\x9b\u202e\udcff\ud83d") == "\\x1b[2J\\x9b\\u202e\\xff\\ud83d"
    assert text_module.printable("a\xad\u200b\ufeff\U000e0041") == "a\\xad\\u200b\\ufeff\\ue0041"
    assert text_module.one_line("a\r\n  b\tc\u2028d\n") == "a b c d"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    )
)
def test_a_result_is_json_of_complete_characters(value: t.Any) -> None:
    json.dumps(text_module.clean(value), ensure_ascii=False, allow_nan=False).encode()


def raising(exc: BaseException) -> t.Callable[[t.Any, bool], dict[str, t.Any]]:
    def run(_params: t.Any, _check_mode: bool) -> dict[str, t.Any]:
        raise exc

    return run


def unencodable() -> UnicodeError:
    try:
        "\udcff".encode()
    except UnicodeError as exc:
        return exc
    raise AssertionError


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (OSError(errno.ENOSPC, "x", "/var/lib/a"), "disk_full"),
        (OSError(errno.EDQUOT, "x"), "disk_full"),
        (OSError(errno.EROFS, "x", b"/var/lib/\xff"), "filesystem_read_only"),
        (PermissionError(errno.EACCES, "x", "/a\n\x1b[0m"), "permission_denied"),
        (OSError(errno.ENAMETOOLONG, "x", "a" * 300), "os_error"),
        (IsADirectoryError(errno.EISDIR, "x", "/a"), "os_error"),
        (OSError("no number"), "internal_error"),
        (KeyError("a\nb"), "internal_error"),
        (RecursionError("deep"), "internal_error"),
        (MemoryError(), "internal_error"),
        (unencodable(), "internal_error"),
        (ValueError(f"http://u:{SECRET}@h"), "internal_error"),
        (OllamaError("own", "a\nb", result={"changed": True, "warnings": ["w\x1b"]}), "own"),
    ],
)
def test_every_exception_is_one_line_with_a_code(exc: Exception, code: str) -> None:
    module = Module({"base_url": f"http://u:{SECRET}@h\x1b"})
    result = module.finish(raising(exc))
    assert result["failed"]
    assert result["failure"]["code"] == code
    assert len(result["msg"].splitlines()) == 1
    text = json.dumps({**result, "warnings": module.warnings}, ensure_ascii=False)
    assert "Traceback" not in text
    assert SECRET not in text
    assert "\x1b" not in text
    text.encode()


def test_a_python_that_is_too_old_is_refused_before_the_module_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "OLDEST_PYTHON", (9, 0))
    result = Module().finish(raising(AssertionError("it has run")))
    assert result["failure"] == {"code": "python_unsupported"}


def test_a_traceback_is_returned_only_at_high_verbosity() -> None:
    shown = Module(verbosity=3).finish(raising(KeyError("x")))
    assert "Traceback" in shown["exception"]
    assert "Traceback" not in shown["msg"]
    assert "exception" not in Module(verbosity=2).finish(raising(KeyError("x")))


def test_what_ends_a_process_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        errors.finish(t.cast("t.Any", Module()), raising(KeyboardInterrupt()))


def test_a_result_is_clean_too() -> None:
    found = {
        "changed": False,
        "names": [os.fsdecode(b"a\xff"), {"\x1b": "x\ny"}],
        "warnings": [f"http://u:{SECRET}@h\nb"],
    }
    module = Module()
    result = module.finish(lambda _params, _check: found)
    assert result["names"] == ["a\\xff", {"\\x1b": "x\ny"}]
    assert module.warnings == ["http://***@h b"]
