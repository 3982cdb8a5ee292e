# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes that describe models: list, loaded models, details. Texts and statuses are those of the recordings."""

from __future__ import annotations

import contextlib
import os
import typing as t

from . import api, gguf, gojson, names, store, web

if t.TYPE_CHECKING:
    from .server import Handler, Server

Json = dict[str, t.Any]


class Facts(t.NamedTuple):
    config: Json
    capabilities: list[str]
    context_length: int
    embedding_length: int


def read_config(app: Server, manifest: store.Manifest) -> Json:
    if not manifest.config or not manifest.config.digest:
        return {}
    config = gojson.loads(app.store.read_blob(manifest.config.digest))
    return config if isinstance(config, dict) else {}


def capabilities(app: Server, manifest: store.Manifest) -> list[str]:
    """Read as little as the real server does: a truncated file counts, one without its magic number does not."""
    layer = manifest.first("model")
    if not layer or not gguf.opens(app.store.blob_path(layer.digest)):
        return []
    try:
        header = gguf.read_header(app.store.blob_path(layer.digest))
    except gguf.BadGGUF:
        return ["completion"]
    if header.arch("pooling_type") is not None:
        return ["embedding"]
    template_layer = manifest.first("template")
    template = ""
    if template_layer:
        with contextlib.suppress(OSError):
            template = app.store.read_blob(template_layer.digest).decode("utf-8", "replace")
    found = ["completion"]
    found += ["vision"] if manifest.first("projector") else []
    found += ["tools"] if ".Tools" in template else []
    found += ["insert"] if ".Suffix" in template else []
    return found


def facts(app: Server, manifest: store.Manifest) -> Facts:
    """Return the cached value of a manifest as long as the model's file is unchanged or missing."""
    config = read_config(app, manifest)
    layer = manifest.first("model")
    gathered: tuple[int, int] | None = None
    path = app.store.blob_path(layer.digest) if layer else ""
    with contextlib.suppress(OSError):
        stat = os.stat(path)
        gathered = (stat.st_size, stat.st_mtime_ns)
    cached = app.cache.get("facts " + manifest.digest)
    if cached and gathered in (None, cached[0]):
        return Facts(config, *cached[1])
    found: tuple[list[str], int, int] = (capabilities(app, manifest), 0, 0)
    with contextlib.suppress(OSError, gguf.BadGGUF):
        header = gguf.read_header(path)
        found = (found[0], int(header.arch("context_length") or 0), int(header.arch("embedding_length") or 0))
        app.cache["facts " + manifest.digest] = (gathered, found)
    return Facts(config, *found)


def details(config: Json, manifest: store.Manifest) -> Json:
    layer = manifest.first("model")
    return {
        "parent_model": layer.source if layer else "",
        "format": config.get("model_format", ""),
        "family": config.get("model_family", ""),
        "families": config.get("model_families"),
        "parameter_size": config.get("model_type", ""),
        "quantization_level": config.get("file_type", ""),
    }


def show_details(config: Json, manifest: store.Manifest) -> Json:
    return {**details(config, manifest), **({"runner": manifest.runner} if manifest.runner else {})}


def _runner_of(app: Server, manifest: store.Manifest) -> str:
    if app.store.generation == 1 or not manifest.first("model"):
        return ""
    return manifest.runner or "ggml"


def tags(app: Server, handler: Handler) -> None:
    models = []
    for entry in app.store.entries():
        try:
            known = facts(app, entry.manifest)
        except (OSError, ValueError):
            if app.store.generation == 1:
                continue
            known = Facts({}, [], 0, 0)
        shown = details(known.config, entry.manifest)
        if known.context_length:
            shown["context_length"] = known.context_length
        if known.embedding_length:
            shown["embedding_length"] = known.embedding_length
        if _runner_of(app, entry.manifest):
            shown["runner"] = _runner_of(app, entry.manifest)
        row = {
            "name": entry.name.display, "model": entry.name.display, "modified_at": gojson.rfc3339(entry.modified),
            "size": entry.manifest.size, "digest": entry.manifest.digest,
        }  # fmt: skip
        for key in ("remote_model", "remote_host"):
            if known.config.get(key):
                row[key] = known.config[key]
        row["details"] = shown
        if known.capabilities:
            row["capabilities"] = known.capabilities
        models.append(row)
    handler.send_json(200, {"models": models})


def ps(app: Server, handler: Handler) -> None:
    models = []
    for loaded in app.runner.loaded():
        shown = loaded.model.name.display
        row = {
            "name": shown, "model": shown, "size": loaded.size, "digest": loaded.model.manifest.digest,
            "details": loaded.model.details, "expires_at": gojson.rfc3339(loaded.expires),
            "size_vram": loaded.size_vram, "context_length": loaded.context_length,
        }  # fmt: skip
        models.append({**row, "runner": "llamacpp"} if app.store.generation == 2 else row)
    handler.send_json(200, {"models": models})


def open_manifest(app: Server, name: names.Name, shown: str, request: Json | None = None) -> store.Manifest:
    try:
        return app.store.manifest(name, (request or {}).get("runner", ""))
    except FileNotFoundError:
        raise api.Failure(404, f"model '{shown}' not found") from None
    except store.StoreError as error:
        bad_request = "runner" in str(error)
        raise api.Failure(400 if bad_request else 500, str(error)) from None
    except (OSError, ValueError) as error:
        raise api.Failure(500, str(error)) from None


def refuse_cloud(app: Server, config: Json, name: names.Name, what: str) -> None:
    remote = config.get("remote_host") or name.tag == "cloud" or name.tag.endswith("-cloud")
    if remote and app.settings.no_cloud:
        raise api.Failure(403, f"ollama cloud is disabled: {what} is unavailable")
    if config.get("remote_host"):
        raise api.Failure(502, f"dial tcp: lookup {config['remote_host']}{web.resolver()}: no such host")


def _parameters_text(params: Json) -> str:
    lines = []
    for key, value in params.items():
        for item in value if isinstance(value, list) else [value]:
            text = gojson.dumps(item)
            lines.append(f"{key:<30} {text}")
    return "\n".join(lines)


def _modelfile(
    name: names.Name, path: str, adapters: list[str], template: str, system: str, params: Json, licenses: list[str]
) -> str:
    def quoted(text: str) -> str:
        return f'"""{text}"""' if "\n" in text or text != text.strip() else text

    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {name.display}",
        "",
        f"FROM {path}",
        *(f"ADAPTER {adapter}" for adapter in adapters),
        f"TEMPLATE {quoted(template)}",
    ]
    lines += [f"SYSTEM {quoted(system)}"] if system else []
    for key, value in sorted(params.items()):
        lines += [f"PARAMETER {key} {item}" for item in (value if isinstance(value, list) else [value])]
    lines += [f"LICENSE {quoted(text)}" for text in licenses]
    return "\n".join(lines) + "\n"


class Layers(t.NamedTuple):
    template: str
    system: str
    params: Json
    licenses: list[str]
    messages: list[Json]


def read_layers(app: Server, manifest: store.Manifest) -> Layers:
    template, system, params, licenses, messages = "{{ .Prompt }}", "", {}, [], []
    for layer in manifest.layers:
        if layer.kind not in ("template", "system", "params", "license", "messages"):
            continue
        data = app.store.read_blob(layer.digest)
        if layer.kind == "params":
            params = gojson.loads(data)
        elif layer.kind == "messages":
            messages = gojson.loads(data)
        elif layer.kind == "template":
            template = data.decode("utf-8", "replace")
        elif layer.kind == "system":
            system = data.decode("utf-8", "replace")
        else:
            licenses.append(data.decode("utf-8", "replace"))
    return Layers(template, system, params, licenses, messages)


def show(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    asked = api.asked_name(request)
    if not asked:
        raise api.Failure(400, "model is required")
    name = api.resolve(app, asked)
    if not name.valid:
        raise api.Failure(400, "invalid model name")
    manifest = open_manifest(app, name, name.display, request)
    verbose = bool(request.get("verbose"))
    key = f"show {manifest.digest} {verbose} {name.display}"
    answer = app.cache.get(key)
    if answer is None:
        answer = app.cache[key] = _describe(app, name, manifest, verbose)
    # The variants at the time when the manifest was first shown; later ones are ignored.
    variants = app.cache.setdefault(f"variants {manifest.digest}", _variants(app, name))
    if len(variants) > 1:
        answer = {**answer, "manifests": variants}
    handler.send_json(200, {**answer, "modified_at": gojson.rfc3339(app.store.modified(name))})


def _variants(app: Server, name: names.Name) -> list[Json]:
    if app.store.generation == 1:
        return []
    return [
        {"digest": f"sha256:{child.digest}", "runner": child.runner, "format": child.format}
        | ({"selected": True} if child.selected else {})
        for child in app.store.all_manifests(name)
    ]


def _describe(app: Server, name: names.Name, manifest: store.Manifest, verbose: bool) -> Json:
    layer = manifest.first("model")
    path = app.store.blob_path(layer.digest) if layer else ""
    try:
        config = read_config(app, manifest)
        refuse_cloud(app, config, name, "remote model details")
        texts = read_layers(app, manifest)
        header = gguf.read_header(path) if layer else None
    except FileNotFoundError:
        raise api.Failure(404, f"model '{name.display}' not found") from None
    except (OSError, ValueError, gguf.BadGGUF) as error:
        raise api.Failure(500, str(error)) from None
    info: Json = {}
    tensors: list[Json] = []
    if header:
        info = {k: None if isinstance(v, list) and not verbose else v for k, v in header.values.items()}
        info.pop("general.name", None)
        info["general.parameter_count"] = header.parameters
        tensors = [{"name": x.name, "type": x.type_name, "shape": list(x.shape)} for x in header.tensors]
    answer: Json = {}
    if texts.licenses:
        answer["license"] = "\n".join(texts.licenses)
    answer["modelfile"] = _modelfile(
        name,
        path,
        [app.store.blob_path(layer.digest) for layer in manifest.layers if layer.kind == "adapter"],
        texts.template,
        texts.system,
        texts.params,
        texts.licenses,
    )
    if texts.params:
        answer["parameters"] = _parameters_text(texts.params)
    answer["template"] = texts.template
    if texts.system:
        answer["system"] = texts.system
    answer["details"] = show_details(config, manifest)
    if texts.messages:
        answer["messages"] = texts.messages
    answer["model_info"] = dict(sorted(info.items()))
    answer["tensors"] = tensors
    answer["capabilities"] = capabilities(app, manifest)
    if config.get("requires"):
        answer["requires"] = config["requires"]
    return answer
