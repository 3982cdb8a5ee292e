# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes of Ollama's own API. Texts and statuses are those of the recordings in tests/fixtures."""

from __future__ import annotations

import contextlib
import hashlib
import http
import os
import re
import secrets
import time
import typing as t

from . import create, gguf, gojson, names, pull, runner, settings, store, web

if t.TYPE_CHECKING:
    from .server import Handler, Server

Json = dict[str, t.Any]
_SHA256 = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


class Failure(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def _now() -> str:
    return gojson.rfc3339(time.time())


def asked_name(request: Json) -> str:
    return request.get("model") or request.get("name") or ""


def resolve(app: Server, text: str) -> names.Name:
    """Return the stored name for the text, or the parsed name itself, also an invalid one."""
    found = app.store.by_digest(text)
    if found:
        return found
    name = names.parse(text)
    return app.store.canonical(name) if name.valid else name


# -- what is known about a model -----------------------------------------------------------------------------------


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
    look: tuple[int, int] | None = None
    path = app.store.blob_path(layer.digest) if layer else ""
    with contextlib.suppress(OSError):
        stat = os.stat(path)
        look = (stat.st_size, stat.st_mtime_ns)
    cached = app.cache.get("facts " + manifest.digest)
    if cached and look in (None, cached[0]):
        return Facts(config, *cached[1])
    found: tuple[list[str], int, int] = (capabilities(app, manifest), 0, 0)
    with contextlib.suppress(OSError, gguf.BadGGUF):
        header = gguf.read_header(path)
        found = (found[0], int(header.arch("context_length") or 0), int(header.arch("embedding_length") or 0))
        app.cache["facts " + manifest.digest] = (look, found)
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


def _show_details(config: Json, manifest: store.Manifest) -> Json:
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
        raise Failure(404, f"model '{shown}' not found") from None
    except store.StoreError as error:
        bad_request = "runner" in str(error)
        raise Failure(400 if bad_request else 500, str(error)) from None
    except (OSError, ValueError) as error:
        raise Failure(500, str(error)) from None


def _refuse_cloud(app: Server, config: Json, name: names.Name, what: str) -> None:
    remote = config.get("remote_host") or name.tag == "cloud" or name.tag.endswith("-cloud")
    if remote and app.settings.no_cloud:
        raise Failure(403, f"ollama cloud is disabled: {what} is unavailable")
    if config.get("remote_host"):
        raise Failure(502, f"dial tcp: lookup {config['remote_host']}{web.resolver()}: no such host")


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
    asked = asked_name(request)
    if not asked:
        raise Failure(400, "model is required")
    name = resolve(app, asked)
    if not name.valid:
        raise Failure(400, "invalid model name")
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
        _refuse_cloud(app, config, name, "remote model details")
        texts = read_layers(app, manifest)
        header = gguf.read_header(path) if layer else None
    except FileNotFoundError:
        raise Failure(404, f"model '{name.display}' not found") from None
    except (OSError, ValueError, gguf.BadGGUF) as error:
        raise Failure(500, str(error)) from None
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
    answer["details"] = _show_details(config, manifest)
    if texts.messages:
        answer["messages"] = texts.messages
    answer["model_info"] = dict(sorted(info.items()))
    answer["tensors"] = tensors
    answer["capabilities"] = capabilities(app, manifest)
    if config.get("requires"):
        answer["requires"] = config["requires"]
    return answer


# -- pull, push, create, copy, delete ------------------------------------------------------------------------------


def _run_stream(handler: Handler, stream: bool, work: t.Callable[[pull.Report], None]) -> None:
    """Send status lines as they arrive; after the first one, an error is another line of a response with 200."""
    last: Json = {}

    def report(line: Json) -> None:
        last.clear()
        last.update(line)
        if stream:
            if not handler.responded:
                handler.begin_stream()
            handler.send_line(line)

    try:
        work(report)
    except (pull.PullError, create.CreateError, web.WebError, store.StoreError) as error:
        if stream and handler.responded:
            handler.send_line({"error": str(error)})
        else:
            handler.send_json(500, {"error": str(error)}, charset=False)
            return
    except OSError as error:
        text = f"{error.filename}: {(error.strerror or '').lower()}"
        if handler.responded:
            handler.send_line({"error": text})
        else:
            handler.send_json(500, {"error": text}, charset=False)
            return
    if stream:
        handler.end_stream()
    elif not handler.responded:
        handler.send_json(200, last, charset=False)


def pull_model(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    name = names.parse(asked_name(request))
    if not name.valid:
        raise Failure(400, "invalid model name")
    name = app.store.canonical(name)
    insecure = bool(request.get("insecure"))

    def work(report: pull.Report) -> None:
        app.puller.pull(name, insecure, report, handler.gone)

    _run_stream(handler, request.get("stream") is not False, work)


def push_model(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    name = resolve(app, asked_name(request))
    if not name.valid:
        raise Failure(400, "invalid model name")
    insecure = bool(request.get("insecure"))
    base = f"{'http' if insecure else 'https'}://{name.host}/v2/{name.namespace}/{name.model}"

    def work(report: pull.Report) -> None:
        report({"status": "retrieving manifest"})
        try:
            manifest = app.store.manifest(name)
        except (OSError, ValueError, store.StoreError):
            raise pull.PullError("couldn't retrieve manifest") from None
        for layer in manifest.all_layers:
            app.puller.fetch("HEAD", f"{base}/blobs/{layer.digest}", insecure).close()
            line = {"status": f"pushing {layer.digest[7:19]}", "digest": layer.digest}
            report({**line, "total": layer.size, "completed": layer.size})
        report({"status": "pushing manifest"})
        raise pull.PullError("405: the registry does not take manifests")

    _run_stream(handler, request.get("stream") is not False, work)


def _base_model(app: Server, handler: Handler, source: str, report: pull.Report) -> names.Name:
    """Return the model that `from` names; pull it if it is missing."""

    def but_success(line: Json) -> None:
        if line["status"] != "success":
            report(line)

    base = resolve(app, source)
    if not base.valid:
        raise create.CreateError("invalid model name")
    if app.store.find(base) is None:
        app.puller.pull(base, False, but_success, handler.gone)
    return base


def create_model(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    name = names.parse(asked_name(request))
    if not name.valid:
        raise Failure(400, "invalid model name")
    name = app.store.canonical(name)
    for digest in (request.get("files") or {}).values():
        if not _SHA256.fullmatch(digest):
            raise Failure(400, "invalid digest format")
    source = request.get("from") or ""
    stream = request.get("stream") is not False

    def work(report: pull.Report) -> None:
        base = _base_model(app, handler, source, report) if source else None
        try:
            create.Creator(app.store, report, app.rewrites).create(name, request, base)
        except gojson.GoJSONError as error:
            raise create.CreateError(str(error)) from None

    if not source and not request.get("files"):
        create.Creator(app.store, lambda line: None).leave_behind(name)
        handler.begin_stream("application/json", 400)
        handler.send_text(gojson.dumps({"error": "neither 'from' or 'files' was specified"}))
        handler.end_stream()
        return
    _run_stream(handler, stream, work)


def copy_model(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    source, destination = request.get("source", ""), request.get("destination", "")
    source_name, target = resolve(app, source), names.parse(destination)
    if not source_name.valid:
        raise Failure(400, f'source "{source}" is invalid')
    if not target.valid:
        raise Failure(400, f'destination "{destination}" is invalid')
    with app.store.lock:
        path = app.store.find(source_name)
        if path is None:
            raise Failure(404, f'model "{source}" not found')
        with open(path, "rb") as stream:
            app.store.write_manifest(app.store.canonical(target), stream.read())
    handler.send_plain(200, content_type=None)


def delete_model(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    asked = asked_name(request)
    if not asked:
        raise Failure(400, "model is required")
    name = resolve(app, asked)
    if not name.valid:
        raise Failure(400, f'name "{asked}" is invalid')
    with app.store.lock:
        try:
            app.store.remove(name)
        except FileNotFoundError:
            raise Failure(404, f"model '{asked}' not found") from None
        except (OSError, ValueError, store.StoreError) as error:
            raise Failure(500, str(error)) from None
    handler.send_plain(200, content_type=None)


def blob_head(app: Server, handler: Handler, digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise Failure(400, "invalid digest format")
    if not app.store.has_blob(digest):
        raise Failure(404, f'blob "{digest}" not found')
    handler.send_plain(200, content_type=None)


def blob_post(app: Server, handler: Handler, digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise Failure(400, "invalid digest format")
    if app.store.has_blob(digest):  # its content is not checked
        handler.close_connection = True
        handler.send_plain(200, content_type=None)
        return
    sha256 = hashlib.sha256()
    temporary = os.path.join(app.store.blobs, f"sha256-{secrets.randbits(32)}")
    with store.create(temporary) as stream:
        for block in handler.body():
            sha256.update(block)
            stream.write(block)
    got = "sha256:" + sha256.hexdigest()
    os.replace(temporary, app.store.blob_path(got))  # wrong bytes stay under their own digest
    if got != digest:
        raise Failure(400, f'digest mismatch, expected "{digest}", got "{got}"')
    handler.send_plain(201, content_type=None)


# -- inference -----------------------------------------------------------------------------------------------------


def keep_alive(app: Server, request: Json) -> float:
    value = request.get("keep_alive")
    if value is None:
        return app.settings.keep_alive
    seconds = float(value) if isinstance(value, (int, float)) else settings.parse_duration(str(value))
    if seconds is None:
        raise Failure(400, f'time: invalid duration "{value}"')
    return settings.FOREVER if seconds < 0 else seconds


class Session(t.NamedTuple):
    asked: str
    model: runner.Model
    layers: Layers


def session(app: Server, request: Json, capability: str, verb: str) -> Session:
    """Return the model of an inference request; raise the failure of a damaged, missing or unsuitable one."""
    asked = asked_name(request)
    name = resolve(app, asked)
    if not name.valid:
        raise Failure(404, f"model '{asked}' not found")
    manifest = open_manifest(app, name, asked, request)
    try:
        config = read_config(app, manifest)
    except FileNotFoundError:
        raise Failure(404, f"model '{asked}' not found") from None
    except (OSError, ValueError) as error:
        raise Failure(500, str(error)) from None
    _refuse_cloud(app, config, name, "remote inference")
    layer = manifest.first("model")
    blob = app.store.blob_path(layer.digest) if layer else ""
    known = app.cache.get("facts " + manifest.digest)
    if known and app.store.generation == 1 and not os.path.exists(blob):
        has = known[1][0]
    else:
        has = capabilities(app, manifest)
    if capability not in has:
        if capability == "embedding" and "completion" in has:
            raise Failure(501, "This server does not support embeddings. Start it with `--embeddings`")
        raise Failure(400, f'"{asked}" does not support {verb}')
    if not os.path.exists(blob):
        raise Failure(404, f'model "{asked}" not found, try pulling it first')
    try:
        layers = read_layers(app, manifest)
    except (OSError, ValueError) as error:
        raise Failure(500, str(error)) from None
    return Session(asked, runner.Model(name, manifest, blob, _show_details(config, manifest)), layers)


@contextlib.contextmanager
def loaded(app: Server, found: Session, request: Json) -> t.Iterator[runner.Loaded]:
    options = request.get("options") or {}

    def context(header: gguf.Header) -> int:
        return runner.context_length(header, found.layers.params, options, app.default_context)

    keep = keep_alive(app, request)
    try:
        with app.runner.use(found.model, context, keep) as model:
            _note_variant(app, found)
            yield model
    except runner.Busy:
        raise Failure(503, "server busy, please try again.  maximum pending requests exceeded") from None
    except runner.LoadError as error:
        raise Failure(500, str(error)) from None


def _note_variant(app: Server, found: Session) -> None:
    """Recorded with 0.40: loading writes the manifest again as a blob, with its runner, without a link to it."""
    manifest = found.model.manifest
    if app.store.generation == 2 and not manifest.runner:
        data = gojson.loads(manifest.raw)
        app.store.add_blob(gojson.dumps({**data, "runner": "ggml", "format": "gguf"}).encode())
    if app.store.generation == 2 and app.settings.migrate and manifest.runner in ("", "ggml"):
        app.log("INFO", f'msg="starting local compat GGUF migration" model={found.model.name.display}')
        app.store.convert(found.model.name, manifest)
        app.log("INFO", f'msg="completed local compat GGUF migration" model={found.model.name.display}')


def _measures(started: float, loading: float, answer: runner.Answer) -> Json:
    total = time.perf_counter() - started
    each = max(1, int((total - loading) * 1e9 / (len(answer.tokens) + answer.prompt_tokens + 1)))
    return {
        "total_duration": max(2, int(total * 1e9)), "load_duration": max(1, int(loading * 1e9)),
        "prompt_eval_count": answer.prompt_tokens, "prompt_eval_duration": each * answer.prompt_tokens,
        "eval_count": len(answer.tokens), "eval_duration": each * len(answer.tokens),
    }  # fmt: skip


def wait_at_the_gate(app: Server, handler: Handler) -> None:
    """Wait after the first word of a response while the file of STANDIN_GATE exists."""
    if not (app.settings.gate and os.path.exists(app.settings.gate)):
        return
    app.log("INFO", 'msg="an answer waits at the gate"')
    while os.path.exists(app.settings.gate):
        if handler.gone():
            raise web.Canceled
        time.sleep(0.005)


def _give_up(app: Server, handler: Handler, line: Json, stream: bool) -> None:
    """End a response of a runner that failed: the last line has done false and no error."""
    app.log("ERROR", 'source=server.go:1560 msg="post predict" error="the answer is not valid UTF-8"')
    if not stream:
        return handler.send_json(200, {**line, "done": False})
    if not handler.responded:
        handler.begin_stream()
    return handler.end_stream()


def _infer(app: Server, handler: Handler, request: Json, found: Session, prompt: str, chat: bool) -> None:
    def piece(text: str) -> Json:
        return {"message": {"role": "assistant", "content": text}} if chat else {"response": text}

    started = time.perf_counter()
    options = {**found.layers.params, **(request.get("options") or {})}
    stream = request.get("stream") is not False
    with loaded(app, found, request):
        loading = time.perf_counter() - started
        answer = runner.answer(found.model.manifest, prompt, options, request.get("format"), app.settings.words)
        shown = answer.tokens[:-1] if stream else []
        for number, token in enumerate(answer.tokens):
            time.sleep(app.settings.token_seconds)
            if number == min(1, len(answer.tokens) - 1):
                wait_at_the_gate(app, handler)
            if handler.gone():
                raise web.Canceled
            if app.settings.runner_fails:
                return _give_up(app, handler, {"model": found.asked, "created_at": _now(), **piece("")}, stream)
            if stream and shown:
                shown.pop()
                if not handler.responded:
                    handler.begin_stream()
                handler.send_line({"model": found.asked, "created_at": _now(), **piece(token), "done": False})
        text = answer.tokens[-1] if stream and answer.tokens else "".join(answer.tokens)
        last = {"model": found.asked, "created_at": _now(), **piece(text), "done": True}
        last["done_reason"] = answer.done_reason
        if not chat:
            last["context"] = list(range(100, 100 + answer.prompt_tokens + len(answer.tokens)))
        last.update(_measures(started, loading, answer))
    if not stream:
        handler.send_json(200, last)
        return
    if not handler.responded:
        handler.begin_stream()
    handler.send_line(last)
    handler.end_stream()


def _load_only(app: Server, handler: Handler, request: Json, found: Session, empty: Json) -> None:
    unload = request.get("keep_alive") in (0, "0", "0s")
    if unload:
        app.runner.unload(found.model.manifest.digest)
    else:
        with loaded(app, found, request):
            pass
    reason = "unload" if unload else "load"
    handler.send_json(200, {"model": found.asked, "created_at": _now(), **empty, "done": True, "done_reason": reason})


def generate(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    found = session(app, request, "completion", "generate")
    prompt = request.get("prompt") or ""
    if not prompt:
        return _load_only(app, handler, request, found, {"response": ""})
    system = request.get("system") or found.layers.system
    return _infer(app, handler, request, found, f"{system}\0{prompt}" if system else prompt, chat=False)


def chat(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    found = session(app, request, "completion", "chat")
    messages = request.get("messages") or []
    if not messages:
        return _load_only(app, handler, request, found, {"message": {"role": "assistant", "content": ""}})
    return _infer(app, handler, request, found, "\0".join(str(m.get("content")) for m in messages), chat=True)


def embed(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    found = session(app, request, "embedding", "embeddings")
    given = request.get("input") or []
    texts = [given] if isinstance(given, str) else given
    started = time.perf_counter()
    with loaded(app, found, request):
        length = int(gguf.read_header(found.model.blob).arch("embedding_length") or 64)
        vectors = [runner.embedding(found.model.manifest, text, request.get("dimensions") or length) for text in texts]
    took = max(1, int((time.perf_counter() - started) * 1e9))
    count = sum(1 + len(text.split()) for text in texts)
    answer = {"model": found.asked, "embeddings": vectors, "total_duration": took, "load_duration": took}
    handler.send_json(200, {**answer, "prompt_eval_count": count})


def embeddings(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    found = session(app, request, "embedding", "embeddings")
    with loaded(app, found, request):
        length = int(gguf.read_header(found.model.blob).arch("embedding_length") or 64)
    handler.send_json(200, {"embedding": runner.embedding(found.model.manifest, request.get("prompt") or "", length)})


# -- the rest ------------------------------------------------------------------------------------------------------


def root(app: Server, handler: Handler) -> None:
    handler.send_plain(http.HTTPStatus.OK, "Ollama is running", "text/plain; charset=utf-8")


def version(app: Server, handler: Handler) -> None:
    handler.send_json(200, {"version": app.version})


def status(app: Server, handler: Handler) -> None:
    source = "env" if app.settings.no_cloud else "none"
    handler.send_json(200, {"cloud": {"disabled": app.settings.no_cloud, "source": source}})
