# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models in the memory of a server: load them, keep them loaded and unload them.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import time
import typing as t
from dataclasses import dataclass

from .._core.errors import OllamaError
from .._core.name import Name, parse
from .._server.api import Client
from .installed import list_models

Row = t.Dict[str, t.Any]

# Seconds. The server represents forever as 292 years.
_AGES = 50 * 365 * 86400.0
# Seconds by which a timer must be shorter than before to count as different, as clocks and rounding differ.
_SLACK = 2.0
# Seconds. The scheduler frees memory shortly after it has reported that.
_POLL = 0.1


@dataclass(frozen=True)
class Residency:
    """The state of a model in the memory of the server.

    :ivar expires: seconds since the epoch.
    :ivar size: bytes in memory.
    :ivar size_vram: bytes in GPU memory.
    :ivar context_length: tokens.
    """

    loaded: bool = False
    expires: float = 0.0
    expires_at: str | None = None
    size: int = 0
    size_vram: int = 0
    context_length: int | None = None

    @classmethod
    def of(cls, row: t.Mapping[str, t.Any]) -> Residency:
        """Return the state in a row of ``/api/ps``."""
        return cls(
            True,
            _timestamp(row.get("expires_at", "")),
            row.get("expires_at"),
            row.get("size", 0),
            row.get("size_vram", 0),
            row.get("context_length"),
        )

    @property
    def forever(self) -> bool:
        """Whether the model stays until it is unloaded or the server needs its memory."""
        return self.loaded and self.expires - time.time() > _AGES

    @property
    def vram_share(self) -> float | None:
        """The share of the model in GPU memory, from 0 to 1; None if it is not loaded."""
        return round(self.size_vram / (self.size or 1), 3) if self.loaded else None

    def __str__(self) -> str:
        return "loaded forever" if self.forever else "loaded for a time" if self.loaded else "not loaded"


def _timestamp(text: str) -> float:
    """Return the seconds since the epoch of a time whose fraction has more digits than Python 3.8 can parse."""
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)\Z", text)
    try:
        if match:
            zone = match.group(2).replace("Z", "+00:00")
            return datetime.datetime.fromisoformat(match.group(1) + zone).timestamp()
    except (ValueError, OverflowError):
        pass
    raise OllamaError(
        "response_invalid", f"/api/ps: invalid time {text[:80]!r}; expected a form such as 2026-11-22T14:54:24Z"
    )


class LoadedModels:
    """The models in the memory of one server.

    :param timeout: the seconds that a load, an unload or an answer may take.
    """

    def __init__(self, client: Client, *, timeout: float) -> None:
        self.client = client
        self.timeout = timeout
        self.installed = list_models(client)

    def require(self, names: t.Iterable[Name]) -> None:
        """Verify that models are installed.

        :raises OllamaError: ``model_missing``.
        """
        missing = [str(name) for name in names if name.key not in self.installed]
        if missing:
            raise OllamaError(
                "model_missing",
                f"{', '.join(missing)}: not installed on {self.client.base_url}; install it with module model first",
                missing=missing,
            )

    def residency(self, name: Name) -> Residency:
        """Return the state of a model in memory. Names with the same manifest share it."""
        known = self.installed.get(name.key)
        rows = self.client.running() if known else []
        for key in ("name", "digest"):
            for row in rows:
                if known and row.get(key) == known.get(key):
                    return Residency.of(row)
        return Residency()

    def answers(self, name: Name) -> bool:
        """Return whether a model generates text or embeddings, as far as the server knows."""
        try:
            capabilities = (self.client.show(name) or {}).get("capabilities") or []
        except OllamaError:
            # The model is so damaged that the server cannot describe it; a test will show that.
            return True
        return not capabilities or bool({"completion", "embedding"} & set(capabilities))

    def residency_after_load(self, name: Name) -> Residency:
        """Return the state of a loaded model, or of another model with the same weights, which are loaded only once."""
        memory = self.residency(name)
        rows = [] if memory.loaded else self.client.running()
        weights = self._weights(name) if rows else ""
        for row in rows:
            # The server may list an invalid name.
            with contextlib.suppress(OllamaError):
                if weights and self._weights(parse(row["name"], allow_cloud=True)) == weights:
                    return Residency.of(row)
        return memory

    def _weights(self, name: Name) -> str:
        try:
            shown = self.client.show(name) or {}
        except OllamaError:
            # The model is damaged.
            return ""
        found = re.search(r"^FROM (\S+)$", str(shown.get("modelfile")), re.MULTILINE)
        return found.group(1) if found else ""

    def unload(self, name: Name) -> None:
        """Unload a model and wait until its memory is released. A running request ends first.

        :raises OllamaError: ``model_still_loaded``.
        """
        self.load(name, 0)
        end = time.monotonic() + self.timeout
        while self.residency(name).loaded:
            if time.monotonic() >= end:
                raise OllamaError(
                    "model_still_loaded", f"{name}: still in memory {self.timeout:g} s after it was unloaded"
                )
            time.sleep(_POLL)

    def load(self, name: Name, keep: float) -> bool:
        """Load a model by a request without input, and return whether it only supports embeddings.

        :param keep: the seconds for which it stays in memory.
        """
        try:
            self._request(self.client.generate, {"model": str(name), "keep_alive": _duration(keep)}, "load_failed")
        except OllamaError as exc:
            if "does not support generate" not in exc.message:
                raise
            # It is an embedding model, or so damaged that the server does not know its capabilities.
            body = {"model": str(name), "input": "", "keep_alive": _duration(keep)}
            self._request(self.client.embed, body, "load_failed")
            return True
        return False

    def generate(self, name: Name, prompt: str, keep: float, options: t.Mapping[str, t.Any]) -> Row:
        """Generate an answer.

        :raises OllamaError: ``server_error``, or ``runner_failed`` if the answer is incomplete: the server reports a
            runner that fails during the answer by status 200 and ``done`` false.
        """
        body = {"model": str(name), "prompt": prompt, "keep_alive": _duration(keep), "options": dict(options)}
        answer = self._request(self.client.generate, body, "server_error")
        if answer.get("done") is False:
            raise OllamaError("runner_failed", f"{name}: the runner ended before the answer was complete")
        return answer

    def embed(self, name: Name, text: str, keep: float) -> Row:
        """Embed a text.

        :raises OllamaError: as `generate` does.
        """
        body = {"model": str(name), "input": text, "keep_alive": _duration(keep)}
        return self._request(self.client.embed, body, "server_error")

    def _request(self, method: t.Callable[..., Row], body: Row, code: str) -> Row:
        """Call the server, and replace the codes of its errors by specific ones."""
        try:
            answer = method(body, timeout=self.timeout)
        except OllamaError as exc:
            status = exc.details.get("status")
            if status is None and exc.code != "connection_stalled":
                raise
            code = {404: "model_missing", 503: "server_busy"}.get(status or 0, code)
            text = f"no answer within {self.timeout:g} s" if exc.code == "connection_stalled" else exc.message
            raise OllamaError(code, f"{body['model']}: {text}", **exc.details) from None
        if answer.get("error"):
            raise OllamaError(code, f"{body['model']}: the server returned: {answer['error']}")
        return answer


def _duration(seconds: float) -> int | str:
    return -1 if seconds < 0 else 0 if not seconds else f"{seconds:.3f}s"


def keep_loaded(
    runs: LoadedModels | None, names: t.Sequence[Name], keep: float | None, *, check_mode: bool
) -> dict[str, t.Any]:
    """Load models and keep them in memory, or unload them, and return the module's result.

    :param runs: None in check mode on a host that has no server yet.
    :param keep: the seconds for which they stay in memory; None to unload them.
    :raises OllamaError: the first failure, with the ``result`` of the changes before it in the details.
    """
    before = {name: runs.residency(name) if runs else Residency() for name in names}
    if check_mode or not runs:
        expected = Residency() if keep is None else Residency(True, time.time() + (2 * _AGES if keep < 0 else keep))
        result = _result(before, dict.fromkeys(names, expected))
        missing = [str(name) for name in names if keep is not None and not (runs and name.key in runs.installed)]
        if missing:
            result["warnings"] = [f"{', '.join(missing)}: not installed yet; the prediction assumes that they will be"]
        return result
    if keep is not None:
        runs.require(names)
    after = dict(before)
    failure: OllamaError | None = None
    try:
        for name in names:
            if keep is None and before[name].loaded:
                runs.unload(name)
            elif keep is not None and not (keep < 0 and before[name].forever):
                # A finite timer is started again, as its original length is unknown.
                runs.load(name, keep)
    except OllamaError as exc:
        failure = exc
    try:
        after = {name: runs.residency(name) if keep is None else runs.residency_after_load(name) for name in names}
    except OllamaError as exc:
        failure = failure or exc
    gone = [str(name) for name in names if keep is not None and not after[name].loaded]
    if gone and not failure:
        failure = OllamaError(
            "model_evicted",
            f"{', '.join(gone)}: loaded, but unloaded again to free memory: the server keeps fewer models at a time"
            " (memory, max_loaded_models)",
            evicted=gone,
        )
    result = _result(before, after)
    if failure:
        raise OllamaError(failure.code, failure.message, **dict(failure.details, result=result))
    return result


def _result(before: t.Mapping[Name, Residency], after: t.Mapping[Name, Residency]) -> dict[str, t.Any]:
    rows = []
    for name, old in before.items():
        new = after[name]
        rows.append(
            {
                "name": str(name),
                "loaded": new.loaded,
                "forever": new.forever,
                "expires_at": new.expires_at,
                "size": new.size,
                "size_vram": new.size_vram,
                "vram_share": new.vram_share,
                "context_length": new.context_length,
                "changed": str(old) != str(new) or (not new.forever and new.expires < old.expires - _SLACK),
            }
        )
    return {
        "changed": any(row["changed"] for row in rows),
        "models": rows,
        "diff": {
            "before": {str(name): str(memory) for name, memory in before.items()},
            "after": {str(name): str(memory) for name, memory in after.items()},
        },
    }
