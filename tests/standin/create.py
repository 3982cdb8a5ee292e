# SPDX-License-Identifier: GPL-3.0-or-later
"""POST /api/create: a model from uploaded GGUF files or from a stored model, with additional layers."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from . import gguf, gojson, names, store

Report = t.Callable[[dict[str, t.Any]], None]


class CreateError(Exception):
    """The text is that of the real server."""


def human_count(count: int) -> str:
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            value = count / unit
            if value >= 100 or unit == 10**3:
                return f"{value:.0f}{letter}"
            return f"{value:.1f}{letter}" if unit >= 10**9 else f"{value:.2f}{letter}"
    return str(count)


def _config(header: gguf.Header | None, previous: dict[str, t.Any]) -> dict[str, t.Any]:
    empty = {"model_format": "", "model_family": "", "model_families": None, "model_type": "", "file_type": ""}
    config = {**empty, **previous}
    if header:
        family = header.architecture
        config.update(model_format="gguf", model_family=family, model_families=[family])
        config.update(model_type=human_count(header.parameters), file_type="unknown")
    for derived in ("architecture", "os", "rootfs"):
        config.pop(derived, None)
    return {**config, "architecture": "amd64", "os": "linux"}


class Creator:
    """`rewrites`: whether imported files pass through llama-quantize, as in servers 0.30 to 0.33."""

    def __init__(self, blobs: store.Store, report: Report, rewrites: bool = False) -> None:
        self._store = blobs
        self._report = report
        self._rewrites = rewrites
        self._layers: list[store.Layer] = []

    def _existing(self, layer: store.Layer) -> None:
        self._layers.append(layer)
        self._report({"status": f"using existing layer {layer.digest}"})

    def _add(self, kind: str, data: bytes) -> None:
        """Replace layers of the kind; licenses are added."""
        if kind != "license":
            self._drop(kind)
        digest, new = self._store.add_blob(data)
        self._layers.append(store.Layer(store.LAYER + kind, digest, len(data)))
        verb = "creating new layer" if new else "using existing layer"
        self._report({"status": f"{verb} {digest}"})

    def _drop(self, kind: str) -> None:
        self._layers = [layer for layer in self._layers if layer.kind != kind]

    def _from_files(self, files: dict[str, str]) -> gguf.Header:
        header = None
        for filename, digest in files.items():
            self._report({"status": "parsing GGUF"})
            path = self._store.blob_path(digest)
            try:
                header = gguf.read_header(path)
                rewritten = gguf.requantized(path) if self._rewrites else None
                if rewritten is not None:
                    digest, _new = self._store.add_blob(rewritten)
                size = len(self._store.read_blob(digest))
            except FileNotFoundError:
                raise CreateError(f"open {path}: no such file or directory") from None
            except gguf.BadGGUF as error:
                raise CreateError(str(error)) from None
            source = ""
            if self._store.generation == 1:
                self._report({"status": "verifying conversion"})
            else:
                source = filename
            self._existing(store.Layer(store.LAYER + "model", digest, size, source))
        if header is None:
            raise CreateError("no GGUF files were given")
        return header

    def _adapt(self, adapters: dict[str, str]) -> None:
        for digest in adapters.values():
            self._existing(store.Layer(store.LAYER + "adapter", digest, len(self._store.read_blob(digest))))

    def create(self, name: names.Name, request: dict[str, t.Any], base: names.Name | None) -> None:
        """Create the model; the caller has pulled `base` if it was missing."""
        header = None
        config: dict[str, t.Any] = {}
        params: dict[str, t.Any] = {}
        if base is not None:
            manifest = self._store.manifest(base)
            own = {
                "template": "template" in request, "system": "system" in request, "license": "license" in request,
                "messages": "messages" in request, "params": True,
            }  # fmt: skip
            for layer in manifest.layers:
                if layer.kind == "params":
                    params = gojson.loads(self._store.read_blob(layer.digest))
                if not own.get(layer.kind):
                    self._existing(dataclasses.replace(layer, source=layer.source or base.display))
            if manifest.config:
                config = gojson.loads(self._store.read_blob(manifest.config.digest))
        elif request.get("files"):
            header = self._from_files(request["files"])
        self._adapt(request.get("adapters") or {})
        if request.get("template"):
            self._add("template", request["template"].encode())
        if request.get("system"):
            self._add("system", request["system"].encode())
        licenses = request.get("license") or []
        for text in [licenses] if isinstance(licenses, str) else licenses:
            self._add("license", text.encode())
        params.update(request.get("parameters") or {})
        if params:
            self._add("params", (gojson.dumps(dict(sorted(params.items()))) + "\n").encode())
        if request.get("messages"):
            self._add("messages", (gojson.dumps(request["messages"]) + "\n").encode())
        self._write(name, _config(header, config))

    def leave_behind(self, name: names.Name) -> None:
        """Write what a request without a source leaves: a config, and from 0.40 an empty model, despite the 400."""
        if self._store.generation == 1:
            self._add_config(_config(None, {}))
        else:
            self._write(name, _config(None, {}))

    def _add_config(self, config: dict[str, t.Any]) -> tuple[str, int]:
        data = (json.dumps(config, separators=(",", ":")) + "\n").encode()
        return self._store.add_blob(data)[0], len(data)

    def _write(self, name: names.Name, config: dict[str, t.Any]) -> None:
        if self._store.generation == 2:
            config["rootfs"] = {"type": "layers", "diff_ids": [layer.digest for layer in self._layers]}
        digest, size = self._add_config(config)
        manifest: dict[str, t.Any] = {
            "schemaVersion": 2,
            "mediaType": store.MANIFEST,
            "config": store.Layer(store.CONFIG, digest, size).to_json(),
            "layers": [layer.to_json() for layer in self._layers] or None,
        }
        if self._store.generation == 2 and self._layers:
            manifest.update(runner="ggml", format="gguf")
        self._report({"status": "writing manifest"})
        replaced: set[str] = set()
        try:
            path = self._store.find(name)
            if path:
                with open(path, "rb") as stream:
                    replaced = self._store.referenced(stream.read())
        except (OSError, ValueError, store.StoreError):
            pass
        self._store.write_manifest(name, (gojson.dumps(manifest) + "\n").encode())
        self._store.remove_unused(replaced)
        self._report({"status": "success"})
