# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of an Ollama server, one method per route.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import re
import time
import typing as t

from .._core.errors import OllamaError
from .._core.http import Response, Stream, open_stream, parse_json, request
from .._core.name import Name
from .._core.server import DEFAULT_URL

Events = t.Generator[t.Dict[str, t.Any], None, None]


# The parts of responses that this collection reads; all keys are optional. A type means a value of it. A list means a
# list of such values. A mapping means an object with such values, without other keys. None means any value.
Shape = t.Union[type, t.List[t.Any], t.Dict[str, t.Any], None]
_DETAILS: Shape = {
    "parent_model": str,
    "format": str,
    "family": str,
    "families": [str],
    "parameter_size": str,
    "quantization_level": str,
    "context_length": int,
    "runner": str,
}
_TAGS: Shape = {
    "models": [
        {
            "name": str,
            "model": str,
            "digest": str,
            "size": int,
            "modified_at": str,
            "remote_host": str,
            "remote_model": str,
            "details": _DETAILS,
            "capabilities": [str],
        }
    ]
}
_PS: Shape = {
    "models": [
        {
            "name": str,
            "model": str,
            "digest": str,
            "size": int,
            "size_vram": int,
            "expires_at": str,
            "context_length": int,
            "details": _DETAILS,
        }
    ]
}
_SHOW: Shape = {
    "modelfile": str,
    "template": str,
    "system": str,
    "parameters": str,
    "license": None,
    "model_info": None,
    "renderer": str,
    "parser": str,
    "messages": [{"role": str, "content": str}],
    "details": _DETAILS,
    "manifests": [{"digest": str}],
    "capabilities": [str],
}
_ANSWER: Shape = {
    "done": bool,
    "response": str,
    "thinking": str,
    "image": str,
    "error": str,
    "total_duration": int,
    "load_duration": int,
    "prompt_eval_count": int,
    "prompt_eval_duration": int,
    "eval_count": int,
    "eval_duration": int,
}
_EMBEDDINGS: Shape = {
    "embeddings": [[float]],
    "error": str,
    "total_duration": int,
    "load_duration": int,
    "prompt_eval_count": int,
}
_EVENT: Shape = {"status": str, "error": str, "digest": str, "total": int, "completed": int}
_LARGEST = (1 << 63) - 1


def check(value: t.Any, shape: Shape, what: str) -> t.Any:
    """Return a parsed response reduced to its shape. Null values in objects and lists are removed.

    :param what: the name of the response in messages, ``/api/tags`` or a part of it.
    :raises OllamaError: ``response_invalid`` if a value has another type, or a number is negative or exceeds 63 bits.
    """
    if shape is None:
        return value
    if isinstance(shape, dict):
        if isinstance(value, dict):
            return {
                key: check(value[key], part, f"{what}: {key}")
                for key, part in shape.items()
                if value.get(key) is not None
            }
        raise _unexpected(value, "an object", what)
    if isinstance(shape, list):
        if isinstance(value, list):
            return [check(item, shape[0], f"{what}[{index}]") for index, item in enumerate(value) if item is not None]
        raise _unexpected(value, "a list", what)
    if shape in (str, bool) and isinstance(value, t.cast("type", shape)):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        if shape is float:
            return float(value)
        if shape is int and isinstance(value, int) and value >= 0:
            return value
    raise _unexpected(
        value, {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}[shape], what
    )


def _unexpected(value: t.Any, expected: str, what: str) -> OllamaError:
    return OllamaError("response_invalid", f"{what}: invalid response {repr(value)[:80]}; expected {expected}")


def error_text(text: str) -> str:
    """Return the message in the body of an error, or the complete body if it does not have Ollama's format."""
    try:
        error = parse_json(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text
    return error if isinstance(error, str) else text


# The patterns of error messages of the server with their codes. The first match counts.
_STREAM_ERRORS: tuple[tuple[str, str], ...] = (
    (r"file does not exist|manifest unknown|pull model manifest: 404", "tag_missing"),
    (r"no space left on device|disk quota exceeded|not enough space", "disk_full"),
    (r"permission denied|read-only file system", "store_unwritable"),
    (r"digest mismatch", "digest_mismatch"),
    (r"requires a newer version|requires ollama version|(^|: )412", "server_too_old"),
    (r"no compatible manifest found", "model_unsupported"),
    (r"requires MLX support", "model_unsupported"),
    (r"realm host|unauthorized|access denied|(^|: )40[13]", "registry_refused"),
    (
        r"no Location header|blocked redirect|redirect target not allowed|stopped after \d+ redirects"
        r"|unexpected status code",
        "registry_unsuitable",
    ),
    # The first message if the answer of the registry begins with HTTP/, else the second.
    (r"HTTP response to HTTPS client|first record does not look like a TLS handshake", "registry_is_http"),
    (r"certificate|tls: |x509", "tls_failed"),
    # The download of a part has ended, or an earlier pull of the blob is still being canceled; the data is kept.
    (r"context canceled", "connection_lost"),
    (r"pull model manifest: .*(invalid character|unexpected end of JSON|cannot unmarshal)", "manifest_invalid"),
    (
        r"connection refused|no such host|i/o timeout|deadline exceeded|EOF|connection reset|broken pipe|max retries"
        r"|network is unreachable|no route to host|stalled|(^|: )(5\d\d|429)",
        "registry_unreachable",
    ),
)


def classify(text: str) -> str:
    """Return the stable code of an error message of the server."""
    for pattern, code in _STREAM_ERRORS:
        if re.search(pattern, text, re.IGNORECASE):
            return code
    return "server_error"


class Client:
    """The client of a server.

    :param base_url: the base URL, for example ``http://127.0.0.1:11434``.
    :param timeout: the seconds that an ordinary response may take.
    :param ca_path: a file or directory with the trusted authorities, instead of those of the system.
    """

    def __init__(self, base_url: str = DEFAULT_URL, *, timeout: float = 30.0, ca_path: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self.ca_path = ca_path

    def _call(
        self, method: str, path: str, body: t.Any = None, *, ok: t.Container[int] = (200,), timeout: float | None = None
    ) -> Response:
        answer = request(
            method,
            self.base_url + path,
            json=body,
            timeout=timeout or self.timeout,
            ca_path=self.ca_path,
            read_limit=64 << 20,
            follow=False,
        )
        if answer.status not in ok:
            raise self._refused(method, path, answer, answer.text(4096))
        return answer

    def _read(self, answer: Response, shape: Shape, path: str) -> dict[str, t.Any]:
        """Return the object in a response, reduced to its shape."""
        return t.cast("dict[str, t.Any]", check(answer.json(), shape, f"{self.base_url}{path}"))

    def _refused(self, method: str, path: str, answer: Response | Stream, text: str) -> OllamaError:
        status = answer.status
        text = error_text(text)[:2000] or "no text"
        if 300 <= status < 400:
            text = f"a redirect to {answer.headers.get('location', '')[:200]!r}, which is not followed; correct api_url"
        code = (
            "model_missing"
            if status == 404 and method != "GET"
            else "redirect_refused"
            if 300 <= status < 400
            else classify(text)
        )
        return OllamaError(
            code, f"{method} {path}: the server answered {status}: {text}", status=status, url=self.base_url + path
        )

    def version(self) -> str:
        """Return the version of the server without a leading v."""
        answer = self._read(self._call("GET", "/api/version"), {"version": str}, "/api/version")
        version = str(answer.get("version", ""))
        if not re.match(r"v?\d{1,6}(\.\d{1,6}){0,3}([+-][0-9A-Za-z.+-]{1,64})?\Z", version):
            raise _unexpected(version, "a version such as 0.35.1", f"{self.base_url}/api/version")
        return version[1:] if version.startswith("v") else version

    def wait(self, seconds: float) -> str:
        """Return the version as soon as the server answers.

        :raises OllamaError: ``server_unreachable`` after the seconds, and errors that waiting does not change.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                return self.version()
            except OllamaError as exc:
                if exc.code in ("response_invalid", "redirect_refused", "url_invalid", "tls_failed"):
                    # Waiting does not change this error.
                    raise
                if time.monotonic() >= end:
                    raise OllamaError(
                        "server_unreachable",
                        f"{self.base_url}: no response of an Ollama server within {seconds:g} s: {exc.message}",
                        url=self.base_url,
                    ) from None
            time.sleep(0.2)

    def tags(self) -> list[dict[str, t.Any]]:
        """Return the rows of the installed models."""
        return self._models("/api/tags", _TAGS)

    def running(self) -> list[dict[str, t.Any]]:
        """Return the rows of the loaded models."""
        return self._models("/api/ps", _PS)

    def _models(self, path: str, shape: Shape) -> list[dict[str, t.Any]]:
        rows: list[dict[str, t.Any]] = self._read(self._call("GET", path), shape, path).get("models", [])
        for row in rows:
            name = row.get("name") or row.get("model")
            if not name:
                raise OllamaError("response_invalid", f"{self.base_url}{path}: a model has no name")
            row["name"] = name
        return rows

    def show(self, name: Name) -> dict[str, t.Any] | None:
        """Return the details of a model, or None if it does not exist."""
        answer = self._call("POST", "/api/show", {"model": str(name)}, ok=(200, 404))
        return self._read(answer, _SHOW, "/api/show") if answer.status == 200 else None

    def copy(self, source: Name, destination: Name) -> None:
        """Copy a model to another name, which shares its blobs."""
        self._call("POST", "/api/copy", {"source": str(source), "destination": str(destination)})

    def delete(self, name: Name) -> bool:
        """Remove a model and the blobs that no other model uses; return false if it did not exist."""
        return self._call("DELETE", "/api/delete", {"model": str(name)}, ok=(200, 404)).status == 200

    def generate(self, body: dict[str, t.Any], *, timeout: float) -> dict[str, t.Any]:
        """Run ``/api/generate`` without streaming."""
        answer = self._call("POST", "/api/generate", dict(body, stream=False), timeout=timeout)
        return self._read(answer, _ANSWER, "/api/generate")

    def embed(self, body: dict[str, t.Any], *, timeout: float) -> dict[str, t.Any]:
        """Run ``/api/embed``."""
        return self._read(self._call("POST", "/api/embed", body, timeout=timeout), _EMBEDDINGS, "/api/embed")

    def pull(self, name: Name, *, insecure: bool = False, timeout: float = 60.0) -> Events:
        """Yield the progress of a pull until ``success``. Closing the iterator cancels the download on the server.

        :param insecure: the option ``insecure`` of Ollama, which allows plain HTTP for the registry.
        :param timeout: the seconds for which the server may send no line.
        :raises OllamaError: also for an error in the stream, and for a stream that ends without ``success``.
        """
        return self._stream("/api/pull", {"model": str(name), "insecure": insecure}, timeout=timeout)

    def create(self, body: dict[str, t.Any], *, timeout: float = 600.0) -> Events:
        """Yield the progress of ``/api/create`` until ``success``.

        :raises OllamaError: as `pull` does.
        """
        return self._stream("/api/create", body, timeout=timeout)

    def _stream(self, path: str, body: dict[str, t.Any], *, timeout: float) -> Events:
        url = self.base_url + path
        with open_stream("POST", url, json=body, timeout=timeout, ca_path=self.ca_path, follow=False) as stream:
            if stream.status != 200:
                raise self._refused("POST", path, stream, stream.read(4096).decode("utf-8", "replace"))
            status = ""
            for line in stream:
                if not line.strip():
                    continue
                try:
                    parsed = parse_json(line)
                    if not isinstance(parsed, dict):
                        raise ValueError
                except ValueError:
                    raise OllamaError("connection_lost", f"{url}: the stream ended inside a line", url=url) from None
                event: dict[str, t.Any] = check(parsed, _EVENT, url)
                if event.get("error"):
                    raise OllamaError(classify(event["error"]), f"the server returned: {event['error']}", url=url)
                status = event.get("status", "")
                yield event
            if status != "success":
                raise OllamaError(
                    "connection_lost", f"{url}: the stream ended without success, after {status!r}", url=url
                )

    def has_blob(self, digest: str) -> bool:
        """Return whether the server has a file with the name of a digest. Its content is not verified."""
        return self._call("HEAD", f"/api/blobs/{digest}", ok=(200, 404)).status == 200

    def upload_blob(self, digest: str, file: t.IO[bytes], size: int, *, timeout: float = 600.0) -> None:
        """Send the content of a file to the store.

        :param size: bytes.
        :raises OllamaError: ``digest_mismatch`` if the content does not match the digest.
        """
        url = f"{self.base_url}/api/blobs/{digest}"
        answer = request(
            "POST",
            url,
            data=file,
            headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
            timeout=timeout,
            ca_path=self.ca_path,
            follow=False,
        )
        if answer.status not in (200, 201):
            raise self._refused("POST", f"/api/blobs/{digest}", answer, answer.text(4096))


def newer_than(version: str, floor: tuple[int, ...]) -> bool:
    """Return whether a version such as ``0.40.2-rc1`` is at least ``floor``; unknown forms count as newest."""
    numbers = re.match(r"v?(\d{1,9}(?:\.\d{1,9}){0,9})(?!\d)", version)
    if not numbers:
        return True
    return tuple(int(part) for part in numbers.group(1).split(".")) >= floor


def client(params: t.Mapping[str, t.Any]) -> Client:
    """Return the client for the options of `argspec`.

    :raises OllamaError: ``url_invalid``.
    """
    if not str(params["api_url"]).startswith(("http://", "https://")):
        raise OllamaError(
            "url_invalid",
            f"api_url: invalid URL {params['api_url']!r}; expected http://host:port or https://host:port",
        )
    return Client(params["api_url"], timeout=params["api_timeout"], ca_path=params["ca_path"])
