# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Timed requests to a server, directly or through a gateway: one request, and a round of parallel ones.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
import typing as t
from dataclasses import dataclass, field

from .._core.errors import OllamaError
from .._core.http import Stream, open_stream, parse_json
from .._server.api import Shape, check, error_text

Sample = t.Dict[str, float]

DIRECT = "direct"
GATEWAY = "gateway"
# The number of texts of an embedding request.
TEXTS = 8
_LINE: Shape = {
    "done": bool,
    "response": str,
    "thinking": str,
    "error": str,
    "embeddings": [[float]],
    "prompt_eval_count": int,
    "prompt_eval_duration": int,
    "eval_count": int,
    "eval_duration": int,
}
# fmt: off
_WORDS = (
    "water", "stone", "river", "light", "house", "green", "paper", "window", "number", "small", "table", "garden",
    "winter", "morning", "yellow", "silver", "market", "forest", "bridge", "letter", "orange", "island", "summer",
    "corner", "engine", "button", "ladder", "pocket", "basket", "mirror", "candle", "feather",
)
# fmt: on


@dataclass(frozen=True)
class Endpoint:
    """The destination of requests.

    :ivar way: DIRECT or GATEWAY.
    :ivar token: an API token of the gateway.
    :ivar ca_path: a file with the trusted authorities, instead of those of the system.
    """

    way: str
    url: str
    token: str = ""
    ca_path: str | None = None

    def post(self, path: str, body: t.Mapping[str, t.Any], timeout: float, until: float) -> Stream:
        """Send a request, and return its response with status 200.

        :param until: the deadline of the complete response on the monotonic clock.
        :raises OllamaError: the errors of `open_stream`, and ``server_error`` for any other status.
        """
        url = self.url.rstrip("/") + path
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        stream = open_stream(
            "POST", url, json=body, headers=headers, timeout=timeout, ca_path=self.ca_path, follow=False, until=until
        )
        if stream.status != 200:
            with stream:
                text = error_text(stream.read(4096).decode("utf-8", "replace"))[:500] or "no text"
            raise OllamaError("server_error", f"{url}: the server answered {stream.status}: {text}", url=url)
        return stream


@dataclass
class Round:
    """Parallel requests that started together.

    :ivar seconds: the time from the first request to the last answer.
    """

    seconds: float
    samples: list[Sample] = field(default_factory=list)
    errors: list[OllamaError] = field(default_factory=list)


class Prompts:
    """Creates prompts with a number of tokens. Their beginnings differ, so that none is in the cache of a server."""

    def __init__(self, seed: int) -> None:
        self._numbers = itertools.count(seed)
        self._lock = threading.Lock()
        self.tokens_per_word = 1.5

    def calibrate(self, words: int, tokens: float) -> None:
        """Set the number of tokens per word from the server's count for a prompt with a number of words."""
        if tokens > 0:
            self.tokens_per_word = max(0.1, tokens / words)

    def of(self, tokens: int) -> str:
        """Return a prompt with about this number of tokens."""
        return self.words(max(1, round(tokens / self.tokens_per_word)))

    def words(self, count: int) -> str:
        """Return a prompt with this number of words."""
        with self._lock:
            number = next(self._numbers)
        start: list[str] = []
        rest = number
        while len(start) < min(count, 12):
            rest, index = divmod(rest, len(_WORDS))
            start.append(_WORDS[index])
        return " ".join(start + [_WORDS[(number + index * index) % len(_WORDS)] for index in range(count - len(start))])


def generate(endpoint: Endpoint, body: t.Mapping[str, t.Any], timeout: float, until: float) -> Sample:
    """Send a prompt, measure the time of the answer, and return the sample.

    :raises OllamaError: the errors of `Endpoint.post`; ``server_error`` for an error in the stream, ``runner_failed``
        if the answer is not complete, ``response_invalid``.
    """
    started = time.monotonic()
    first: float | None = None
    last: dict[str, t.Any] = {}
    with endpoint.post("/api/generate", dict(body, stream=True), timeout, until) as stream:
        for line in stream:
            if not line.strip():
                continue
            last = _parse(line, stream.url)
            if first is None and (last.get("response") or last.get("thinking")):
                first = time.monotonic() - started
    seconds = time.monotonic() - started
    if not last.get("done"):
        raise OllamaError("runner_failed", f"{body['model']}: the answer is not complete")
    return {
        "seconds": seconds,
        "first_token_seconds": seconds if first is None else first,
        "prompt_tokens": last.get("prompt_eval_count", 0),
        "prompt_seconds": last.get("prompt_eval_duration", 0) / 1e9,
        "answer_tokens": last.get("eval_count", 0),
        "answer_seconds": last.get("eval_duration", 0) / 1e9,
    }


def embed(endpoint: Endpoint, body: t.Mapping[str, t.Any], timeout: float, until: float) -> Sample:
    """Embed texts, measure the time of the answer, and return the sample.

    :raises OllamaError: as `generate` does.
    """
    started = time.monotonic()
    with endpoint.post("/api/embed", body, timeout, until) as stream:
        text = b""
        while len(text) <= 64 << 20:
            piece = stream.read(1 << 20)
            if not piece:
                break
            text += piece
    seconds = time.monotonic() - started
    answer = _parse(text, stream.url)
    count = len(answer.get("embeddings") or [])
    if count != len(body["input"]):
        raise OllamaError("response_invalid", f"{stream.url}: {count} embeddings; expected {len(body['input'])}")
    return {"seconds": seconds, "texts": count, "prompt_tokens": answer.get("prompt_eval_count", 0)}


def _parse(text: bytes, url: str) -> dict[str, t.Any]:
    try:
        parsed = parse_json(text)
    except ValueError:
        raise OllamaError("response_invalid", f"{url}: the answer is not JSON", url=url) from None
    event: dict[str, t.Any] = check(parsed, _LINE, url)
    if event.get("error"):
        raise OllamaError("server_error", f"{url}: the server returned: {event['error']}", url=url)
    return event


def run_round(send: t.Callable[[], Sample], count: int) -> Round:
    """Run a function in a number of threads that start together."""
    barrier = threading.Barrier(count)

    def one() -> Sample:
        barrier.wait(timeout=30)
        return send()

    with concurrent.futures.ThreadPoolExecutor(max_workers=count) as pool:
        started = time.monotonic()
        futures = [pool.submit(one) for _number in range(count)]
        concurrent.futures.wait(futures)
        done = Round(time.monotonic() - started)
    for future in futures:
        error = future.exception()
        if error is None:
            done.samples.append(future.result())
        elif isinstance(error, OllamaError):
            done.errors.append(error)
        else:
            raise error
    return done
