# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP of the modules against servers that misbehave: each fault is one line with a stable code."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
import types
import typing as t
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from ansible_collections.kaido.ollama.plugins.module_utils._core import http
from ansible_collections.kaido.ollama.plugins.module_utils._core.errors import OllamaError
from ansible_collections.kaido.ollama.plugins.module_utils._core.http import open_stream, request
from ansible_collections.kaido.ollama.plugins.module_utils._core.name import parse
from ansible_collections.kaido.ollama.plugins.module_utils._server.api import Client
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


def test_connection_refused() -> None:
    assert code_of("http://127.0.0.1:1/") == "server_unreachable"


def test_no_such_host() -> None:
    assert code_of("http://nowhere.invalid/") == "server_unreachable"


def test_silence_before_the_answer(raw: Serve) -> None:
    assert code_of(raw(b"", hold=True), timeout=0.3) == "connection_stalled"


def test_silence_inside_the_answer(raw: Serve) -> None:
    assert (
        code_of(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", hold=True), timeout=0.3) == "connection_stalled"
    )


def test_a_truncated_body(raw: Serve) -> None:
    assert code_of(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")) == "connection_lost"


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_something_else_is_listening(raw: Serve, answer: bytes) -> None:
    assert code_of(raw(answer)) == "connection_lost"


def test_plain_http_where_tls_was_expected(raw: Serve) -> None:
    url = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").replace("http:", "https:")
    assert code_of(url) == "tls_failed"


def test_an_endless_answer_does_not_fill_the_memory(raw: Serve) -> None:
    url = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000)
    assert code_of(url, read_limit=1000) == "response_invalid"


def test_the_server_of_this_host_redirects_to_no_other(raw: Serve) -> None:
    target = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    url = raw(f"HTTP/1.1 302 Found\r\nLocation: {target}/\r\nContent-Length: 0\r\n\r\n".encode())
    assert request("GET", url, follow=False).status == 302
    assert code_of(url) == "redirect_refused"
    with pytest.raises(OllamaError) as caught:
        Client(url).version()
    assert caught.value.code == "redirect_refused"


LINES = b'{"status":"pulling manifest"}\n{"status":"verifying sha256 digest"}\n{"status":"success"}\n'


def stream_of(body: bytes) -> bytes:
    """Return a chunked answer that ends properly, regardless of the body."""
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
    # Without a final line feed the last line is still complete.
    complete = cut >= len(LINES) - 1
    assert pull(raw(stream_of(LINES[:cut]))) == ("success" if complete else "connection_lost")


def test_an_error_inside_a_200_is_a_failure(raw: Serve) -> None:
    assert pull(raw(stream_of(LINES[:30] + b'{"error":"pull model manifest: file does not exist"}\n'))) == "tag_missing"


@pytest.mark.parametrize("line", [b"null", b"[]", b"3", b'"success"', b"{", b"\xff"])
def test_a_line_that_is_no_event_is_a_failure(raw: Serve, line: bytes) -> None:
    assert pull(raw(stream_of(line + b"\n"))) == "connection_lost"


# Bounds


@pytest.fixture
def peer() -> Iterator[t.Callable[..., str]]:
    """Serve every connection with a function of it; it is stopped with the test."""
    listeners: list[socket.socket] = []
    closing = threading.Event()

    def serve(answer: t.Callable[[socket.socket, threading.Event], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                answer(connection, closing)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    # What is left unread would reset the connection.
                    pass

        def loop() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=loop, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    closing.set()
    for listener in listeners:
        listener.close()


def trickle(head: bytes, piece: bytes, seconds: float) -> t.Callable[[socket.socket, threading.Event], None]:
    """Send the head, and then a piece again and again."""

    def answer(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(head)
        while not closing.wait(seconds):
            connection.sendall(piece)

    return answer


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "piece", "code"),
    [
        (b"", b"H", "connection_stalled"),
        (HEAD, b"a", "connection_stalled"),
        (HEAD, b"A: b\r\n", "connection_stalled"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "connection_stalled"),
        (HEAD + b"Content-Length: 100000\r\n\r\n", b"x", "connection_stalled"),
        (HEAD + b"\r\n", b"x", "connection_stalled"),
        (CHUNKED, b"1\r\nx\r\n", "connection_stalled"),
        (CHUNKED, b"1", "connection_stalled"),
        (CHUNKED + b"0\r\n", b"A: b\r\n", "connection_stalled"),
    ],
)
def test_an_answer_that_trickles_ends(peer: t.Any, head: bytes, piece: bytes, code: str) -> None:
    assert code_of(peer(trickle(head, piece, 0.03)), timeout=0.2) == code


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 999),
        (HEAD, b"A: " + b"b" * 9999),
        (HEAD, b"A: b\r\n" * 999),
        (CHUNKED, b"1" * 9999),
        (CHUNKED, b"1;" + b"x" * 9999),
        (CHUNKED + b"0\r\n", b"A: b\r\n" * 999),
        (HEAD + b"\r\n", b"x" * 9999),
    ],
)
def test_an_answer_without_an_end_ends(peer: t.Any, head: bytes, piece: bytes) -> None:
    code = code_of(peer(trickle(head, piece, 0)), timeout=0.3, read_limit=1 << 20)
    assert code in ("connection_stalled", "connection_lost", "response_invalid")


def read_lines(url: str, timeout: float = 0.2) -> str:
    with pytest.raises(OllamaError) as caught:
        for _event in Client(url).pull(parse("a"), timeout=timeout):
            pass
    return caught.value.code


def test_a_line_without_an_end_ends(peer: t.Any) -> None:
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    assert read_lines(peer(trickle(CHUNKED, chunk, 0)), timeout=20) == "response_invalid"


def test_a_line_that_trickles_ends(peer: t.Any) -> None:
    assert read_lines(peer(trickle(CHUNKED, b"1\r\nx\r\n", 0.03))) == "connection_stalled"


def test_a_stream_that_goes_on_may_take_long(peer: t.Any) -> None:
    """Each line has its own time, so a pull of hours is no stall."""

    def answer(connection: socket.socket, closing: threading.Event) -> None:
        connection.sendall(HEAD + b"\r\n")
        for _number in range(8):
            closing.wait(0.15)
            connection.sendall(b'{"status":"pulling"}\n')
        connection.sendall(b'{"status":"success"}\n')

    events = list(Client(peer(answer)).pull(parse("a"), timeout=0.6))
    assert len(events) == 9


def test_a_download_that_trickles_ends(peer: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_SLOWEST", 1 << 24)
    url = peer(trickle(HEAD + b"Content-Length: 100000\r\n\r\n", b"x", 0.03))
    with open_stream("GET", url, timeout=0.2) as stream, pytest.raises(OllamaError) as caught:
        stream.read(1 << 16)
    assert caught.value.code == "connection_stalled"


def test_a_deadline_is_shorter_than_any_timeout(peer: t.Any) -> None:
    url = peer(trickle(HEAD + b"Content-Length: 100000\r\n\r\n", b"x", 0.03))
    assert code_of(url, timeout=60, until=time.monotonic() + 0.2) == "connection_stalled"


# Redirects


def redirect(location: str) -> t.Callable[[socket.socket, threading.Event], None]:
    text = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return lambda connection, _closing: connection.sendall(text.encode())


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "http://127.0.0.2/x",
        "http://registry.example/",
        "//registry.example/x",
        "http://[::1/",
        "http://127.0.0.1:0/",
        "http:///x",
        "",
        "gopher://x",
    ],
)
def test_a_redirect_to_another_host_is_refused(peer: t.Any, location: str) -> None:
    assert code_of(peer(redirect(location))) == "redirect_refused"


@pytest.mark.parametrize(
    ("here", "location", "there"),
    [
        ("https://hf.co/v2/a", "https://huggingface.co/v2/a", True),
        ("https://hf.co/v2/a", "/v2/b", True),
        ("http://mirror.lan/v2/a", "https://mirror.lan/v2/a", True),
        ("http://mirror.lan:8080/a", "https://mirror.lan:8443/a", True),
        ("https://hf.co/a", "http://hf.co/a", False),
        ("https://hf.co/a", "https://127.0.0.1:11434/a", False),
        ("https://hf.co/a", "https://localhost/a", False),
        ("https://hf.co/a", "https://169.254.169.254/latest", False),
        ("https://hf.co/a", "https://[::ffff:127.0.0.1]/a", False),
        ("https://hf.co/a", "https://127.1/a", False),
        ("https://hf.co/a", "https://2130706433/a", False),
        ("https://hf.co/a", "https://0x7f.0.0.1/a", False),
        ("https://hf.co/a", "https://0/a", False),
        ("https://hf.co/a", "https://1.example/a", True),
        ("http://mirror.lan/a", "http://mirror.lan:81/a", False),
    ],
)
def test_permitted_redirects(here: str, location: str, there: bool) -> None:
    refused = contextlib.nullcontext() if there else pytest.raises(OllamaError, match="leads to")
    with refused:
        assert http._redirect(urlsplit(here), location).hostname


def test_a_redirect_to_itself_ends(peer: t.Any) -> None:
    assert code_of(peer(redirect("/again"))) == "redirect_refused"


def test_every_hop_has_to_be_tls_on_request(peer: t.Any) -> None:
    assert code_of(peer(redirect("/")), tls_only=True) == "redirect_refused"


def test_credentials_stay_with_their_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither user information nor a header follows a redirect to another host, port or scheme."""
    hops = ["https://a.lan/2", "https://b.lan/3", "https://u2:p2@a.lan/4"]
    sent: list[tuple[str, bool, bool]] = []

    def send(_method: str, url: t.Any, _data: t.Any, headers: t.Any, *_rest: t.Any) -> t.Any:
        sent.append((url.geturl(), url.username is not None, "Authorization" in headers))
        raw = types.SimpleNamespace(status=302, headers={"location": hops[len(sent) - 1]}, close=lambda: None)
        if len(sent) > 3:
            raw = types.SimpleNamespace(status=200, headers={}, close=lambda: None)
        return raw

    hops.insert(3, "")
    monkeypatch.setattr(http, "send", send)
    with open_stream("GET", "https://u:p@a.lan/1", headers={"Authorization": "Bearer x"}) as stream:
        assert stream.status == 200
    assert sent == [
        ("https://u:p@a.lan/1", True, True),
        ("https://a.lan/2", False, True),
        ("https://b.lan/3", False, False),
        ("https://a.lan/4", False, False),
    ]


def test_user_information_becomes_a_header(peer: t.Any) -> None:
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _peer = listener.accept()
        with connection:
            seen.append(connection.recv(65536))
            connection.sendall(HEAD + b"Content-Length: 0\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    with listener:
        request("GET", f"http://ci:p%40ss@127.0.0.1:{listener.getsockname()[1]}/x?y=ü")
    head = seen[0].decode()
    assert head.startswith("GET /x?y=%C3%BC HTTP/1.1\r\n")
    assert "ci:p" not in head
    assert f"Authorization: Basic {base64.b64encode(b'ci:p@ss').decode()}\r\n" in head
