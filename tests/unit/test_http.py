"""HTTP of the modules against servers that misbehave: each fault is one line with a stable code."""

from __future__ import annotations

import socket
import threading
import typing as t
from collections.abc import Iterator

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._client import Client
from ansible_collections.kaido.ollama.plugins.module_utils._errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._http import open_stream, request
from ansible_collections.kaido.ollama.plugins.module_utils._name import parse
from hypothesis import given, settings
from hypothesis import strategies as st

Serve = t.Callable[..., str]


@pytest.fixture(scope="module")
def raw() -> Iterator[Serve]:
    """Serve fixed bytes to every connection, then close it or hold it open."""
    closing = threading.Event()
    listeners: list[socket.socket] = []

    def serve(answer: bytes, *, hold: bool = False) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            while not closing.is_set():
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    if hold:
                        closing.wait(20)

        threading.Thread(target=loop, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    closing.set()
    for listener in listeners:
        listener.close()


def code_of(url: str, **options: t.Any) -> str:
    with pytest.raises(OllamaError) as caught:
        request("GET", url, **options)
    assert "\n" not in caught.value.message
    assert url in caught.value.message
    return caught.value.code


def test_a_status_is_data(raw: Serve) -> None:
    answer = request("GET", raw(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nX-A: b\r\n\r\nfull"))
    assert (answer.status, answer.text(), answer.headers["x-a"]) == (503, "full", "b")


def test_nobody_there() -> None:
    assert code_of("http://127.0.0.1:1/") == "unreachable"


def test_no_such_host() -> None:
    assert code_of("http://nowhere.invalid/") == "unreachable"


def test_silence_before_the_answer(raw: Serve) -> None:
    assert code_of(raw(b"", hold=True), timeout=0.3) == "stalled"


def test_silence_inside_the_answer(raw: Serve) -> None:
    assert code_of(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", hold=True), timeout=0.3) == "stalled"


def test_a_cut_body(raw: Serve) -> None:
    assert code_of(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")) == "connection_lost"


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_something_else_is_listening(raw: Serve, answer: bytes) -> None:
    assert code_of(raw(answer)) == "connection_lost"


def test_plain_http_where_tls_was_expected(raw: Serve) -> None:
    url = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").replace("http:", "https:")
    assert code_of(url) == "tls"


def test_an_endless_answer_does_not_fill_the_memory(raw: Serve) -> None:
    url = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000)
    assert code_of(url, read_limit=1000) == "bad_answer"


def test_this_hosts_server_leads_nowhere_else(raw: Serve) -> None:
    target = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    url = raw(f"HTTP/1.1 302 Found\r\nLocation: {target}/\r\nContent-Length: 0\r\n\r\n".encode())
    assert request("GET", url, follow=False).status == 302
    assert code_of(url) == "redirect_refused"
    with pytest.raises(OllamaError) as caught:
        Client(url).version()
    assert caught.value.code == "redirect_refused"


LINES = b'{"status":"pulling manifest"}\n{"status":"verifying sha256 digest"}\n{"status":"success"}\n'


def stream_of(body: bytes) -> bytes:
    """Return a chunked answer that ends properly, whatever the body is."""
    return (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b"")
        + b"0\r\n\r\n"
    )


def test_a_stream_is_read_line_by_line(raw: Serve) -> None:
    with open_stream("POST", raw(stream_of(LINES)), json={}) as stream:
        assert len(list(stream)) == 3


def pull(url: str) -> str:
    """Return how a pull ended: success, or the code of its failure."""
    try:
        return [str(event["status"]) for event in Client(url).pull(parse("a"), timeout=5)][-1]
    except OllamaError as exc:
        return exc.code


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(LINES)))
def test_a_stream_cut_anywhere_is_never_a_success(raw: Serve, cut: int) -> None:
    # Without its last line feed the last line is still whole.
    whole = cut >= len(LINES) - 1
    assert pull(raw(stream_of(LINES[:cut]))) == ("success" if whole else "connection_lost")


def test_an_error_inside_a_200_is_a_failure(raw: Serve) -> None:
    assert pull(raw(stream_of(LINES[:30] + b'{"error":"pull model manifest: file does not exist"}\n'))) == "tag_missing"


@pytest.mark.parametrize("line", [b"null", b"[]", b"3", b'"success"', b"{", b"\xff"])
def test_a_line_that_is_no_event_is_a_failure(raw: Serve, line: bytes) -> None:
    assert pull(raw(stream_of(line + b"\n"))) == "connection_lost"
