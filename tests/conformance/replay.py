# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay the recorded requests in order, under other names, and normalize the responses.

What can't be the same is rewritten on both sides: names, the registry's address, times, durations, generated text, and
the digests of models whose manifest holds one of our names.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t

from tests.standin.registry import FIXTURES, Registry, weights

from .target import NAMESPACE, Reply, Target, sha256

RECORDED_REGISTRY = "mirror.test:11480"
MODEL_BLOB = "sha256:a909f554de2d9f495deb26ab065ecc27aa053c2ba9b004cad87101aaf0bfc917"
UPLOADED = "sha256:f69961e51ee1b8a127f3cd2f5958db426331db6851224f652b5db73ffc153237"  # its bytes: ours

NEEDS_RUNNER = {
    "generate_load_only", "ps_loaded", "generate_stream", "generate_nostream", "chat_nostream", "embed", "v1_chat",
    "generate_keep_forever", "ps_keep_forever", "generate_unload", "ps_after_unload", "damaged_truncated_generate",
}  # fmt: skip
# The public registry may be reachable from a real server: these two have cases of their own, on a closed port.
ELSEWHERE = {"create_missing_from", "push_unreachable"}
DAMAGE = ("damaged_", "removed_", "broken_")

_OWN = re.compile(r"(?<=[\"'/ ])(tiny|made|nope|x|Tiny)(?=(?::latest|:q8|:Q8)?[\\\"'])")
_TIMES = {"modified_at", "created_at", "expires_at", "created"}
_NUMBERS = {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration", "prompt_eval_count",
            "prompt_tokens", "total_tokens", "eval_count", "completion_tokens"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Exchange:
    name: str
    method: str
    path: str
    body: t.Any
    status: int
    content_type: str | None
    chunked: bool
    content_length: str | None
    lines: list[str]
    store_after: dict[str, t.Any] | None


def load(generation: int) -> dict[str, Exchange]:
    text = (FIXTURES / ("v0.40" if generation == 2 else "v0.33") / "exchanges.json").read_text()
    found = {}
    for item in json.loads(text):
        request, response = item["request"], item["response"]
        found[item["name"]] = Exchange(
            item["name"], request["method"], request["path"], request["body"], response["status"],
            response["content_type"], response["transfer_encoding"] == "chunked", response["content_length"],
            response["lines"], item.get("store_after"),
        )  # fmt: skip
    return found


class Replay:
    """The responses of one server to all exchanges, or the reason why a request was not sent."""

    def __init__(self, target: Target, registry: Registry, runs: bool) -> None:
        self.target = target
        self.registry = registry
        self.upload = weights(registry.port, architecture="recorded")
        self.recorded = load(target.generation)
        self.replies: dict[str, Reply] = {}
        self.files: dict[str, dict[str, t.Any]] = {}
        self.skipped: dict[str, str] = {}
        self._fresh = not target.has_blob(MODEL_BLOB)
        for exchange in self.recorded.values():
            reason = self._why_not(exchange.name, runs)
            if reason:
                self.skipped[exchange.name] = reason
                continue
            self._damage(exchange.name)
            self.replies[exchange.name] = target.call(
                exchange.method, self.ours(exchange.path), **self._payload(exchange)
            )
            if target.models_dir is not None and exchange.store_after is not None:
                self.files[exchange.name] = self._snapshot()
        self._clean_up()

    def _why_not(self, name: str, runs: bool) -> str:
        if name in NEEDS_RUNNER and not runs:
            return "needs a server that can run models"
        if name.startswith(DAMAGE):
            if self.target.models_dir is None:
                return "needs --models-dir: the case damages files of the store"
            if not self._fresh:
                return "the store held the blob that the case damages before the run: somebody may want it"
        return ""

    def ours(self, text: str) -> str:
        """Return the recorded text with the names, registry and upload of this run."""
        text = text.replace(RECORDED_REGISTRY, self.registry.host)
        return text.replace(UPLOADED, sha256(self.upload)).replace(UPLOADED[7:], sha256(self.upload)[7:])

    def _payload(self, exchange: Exchange) -> dict[str, t.Any]:
        body = exchange.body
        if isinstance(body, dict):
            text = self.ours(json.dumps(body))
            for key in ("model", "source", "destination", "from"):
                text = re.sub(rf'("{key}": ")(tiny|nope|made|x|Tiny:Q8)(?=")', rf"\1{NAMESPACE}/\2", text)
            return {"body": json.loads(text.replace("kaido/helper", f"{NAMESPACE}/helper"))}
        raw = {
            "pull_bad_json": b"{nope", "pull_empty_body": b"", "blob_post_bad_digest_form": b"x",
            "blob_post_wrong_digest": (FIXTURES / "store-v1/blobs" / MODEL_BLOB.replace(":", "-")).read_bytes(),
            "blob_post": self.upload, "blob_post_again": self.upload,
        }  # fmt: skip
        return {"raw": raw[exchange.name]} if body is not None else {}

    def _damage(self, name: str) -> None:
        """Repeat the changes of the store between two recorded requests."""
        if name == "damaged_same_size_tags":
            with self.target.blob(MODEL_BLOB).open("r+b") as stream:
                stream.seek(200_000)
                stream.write(b"\xde\xad\xbe\xef")
        elif name == "damaged_truncated_pull":
            os.truncate(self.target.blob(MODEL_BLOB), 1000)
        elif name == "removed_blob_tags":
            self.target.blob(MODEL_BLOB).unlink()
        elif name == "broken_manifest_tags":
            self._own_manifest("tiny", "latest").write_text("{broken")

    def _own_manifest(self, model: str, tag: str) -> t.Any:
        return self.target.manifest("registry.ollama.ai", NAMESPACE, model, tag)

    def _snapshot(self) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {}
        for path in self.target.store.rglob("*"):
            key = str(path.relative_to(self.target.store))
            if path.is_symlink():
                found[key] = {"link": os.readlink(path)}
            elif path.is_file():
                found[key] = {"size": path.stat().st_size, "mode": oct(path.stat().st_mode & 0o7777)}
        return found

    def _clean_up(self) -> None:
        if "broken_manifest_show" in self.replies:
            manifest = self._own_manifest("tiny", "latest")
            manifest.resolve().unlink()
            manifest.unlink(missing_ok=True)
            if self.target.generation == 2:
                self._own_manifest("tiny", "q8").unlink(missing_ok=True)
                self.target.manifest(self.registry.host, "library", "tiny", "latest").unlink(missing_ok=True)
        for row in self.target.rows(f"{NAMESPACE}/") + self.target.rows(self.registry.host):
            self.target.delete(row["name"])
        if self._fresh and self.target.models_dir is not None and self.target.has_blob(MODEL_BLOB):
            self.target.blob(MODEL_BLOB).unlink()

    # -- comparing -----------------------------------------------------------------------------------------------

    def expected(self, name: str) -> list[t.Any]:
        recorded = self.recorded[name]
        return [self._plain(self._rename(line), name) for line in recorded.lines]

    def answered(self, name: str) -> list[t.Any]:
        return [self._plain(line, name) for line in self.replies[name].lines]

    def _rename(self, line: str) -> str:
        line = self.ours(line).replace("kaido/helper", f"{NAMESPACE}/helper")
        if line.startswith("{"):
            line = _OWN.sub(lambda match: f"{NAMESPACE}/{match[1]}", line)
            line = line.replace(f"library/{NAMESPACE}/", "library/")
        return line

    def _plain(self, line: str, name: str) -> t.Any:
        try:
            value = json.loads(line)
        except ValueError:
            return line
        if name.startswith(("tags", "damaged_same_size_tags", "removed_blob_tags", "broken_manifest_tags", "ps")):
            value["models"] = self._mine(value["models"], "name")
        if name == "v1_models":
            value["data"] = self._mine(value["data"] or [], "id")
        return _mask(value)

    def _mine(self, rows: list[dict[str, t.Any]], key: str) -> list[dict[str, t.Any]]:
        rows = [row for row in rows if row[key].startswith((f"{NAMESPACE}/", self.registry.host))]
        for row in rows:
            if row[key].startswith(NAMESPACE) and "owned_by" in row:
                row["owned_by"] = NAMESPACE
            if re.search(r"/(made|helper):", row[key]):
                row["digest"] = "of a manifest that holds a name or a blob of ours"
        return sorted(rows, key=lambda row: str(row[key]))


def _mask(value: t.Any) -> t.Any:
    """Replace times, durations, generated text and paths with placeholders."""
    if isinstance(value, list):
        return [_mask(item) for item in value]
    if not isinstance(value, dict):
        return re.sub(r"\S*/blobs/sha256", "<models>/blobs/sha256", value) if isinstance(value, str) else value
    masked = {}
    for key, item in value.items():
        if key in _TIMES:
            masked[key] = "time"
        elif key in _NUMBERS:
            masked[key] = "number" if isinstance(item, int) and item > 0 else item
        elif (key == "response" and item) or key == "content":
            masked[key] = "text" if isinstance(item, str) else item
        elif key == "context":
            masked[key] = "tokens" if all(isinstance(token, int) for token in item) else item
        elif key in ("size", "size_vram") and "expires_at" in value:
            masked[key] = "number" if isinstance(item, int) else item
        elif key == "parameters" and isinstance(item, str):
            masked[key] = "\n".join(sorted(item.split("\n")))
        elif key == "id" and str(item).startswith("chatcmpl-"):
            masked[key] = "chatcmpl"
        else:
            masked[key] = _mask(item)
    return masked
