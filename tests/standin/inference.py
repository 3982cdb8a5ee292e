# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes that run a model: generate, chat, embeddings. Texts and statuses are those of the recordings."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from . import api, describe, gguf, gojson, runner, settings, web

if t.TYPE_CHECKING:
    from .server import Handler, Server

Json = dict[str, t.Any]


def keep_alive(app: Server, request: Json) -> float:
    value = request.get("keep_alive")
    if value is None:
        return app.settings.keep_alive
    seconds = float(value) if isinstance(value, (int, float)) else settings.parse_duration(str(value))
    if seconds is None:
        raise api.Failure(400, f'time: invalid duration "{value}"')
    return settings.FOREVER if seconds < 0 else seconds


class Session(t.NamedTuple):
    asked: str
    model: runner.Model
    layers: describe.Layers


def session(app: Server, request: Json, capability: str, verb: str) -> Session:
    """Return the model of an inference request; raise the failure of a damaged, missing or unsuitable one."""
    asked = api.asked_name(request)
    name = api.resolve(app, asked)
    if not name.valid:
        raise api.Failure(404, f"model '{asked}' not found")
    manifest = describe.open_manifest(app, name, asked, request)
    try:
        config = describe.read_config(app, manifest)
    except FileNotFoundError:
        raise api.Failure(404, f"model '{asked}' not found") from None
    except (OSError, ValueError) as error:
        raise api.Failure(500, str(error)) from None
    describe.refuse_cloud(app, config, name, "remote inference")
    layer = manifest.first("model")
    blob = app.store.blob_path(layer.digest) if layer else ""
    known = app.cache.get("facts " + manifest.digest)
    if known and app.store.generation == 1 and not os.path.exists(blob):
        has = known[1][0]
    else:
        has = describe.capabilities(app, manifest)
    if capability not in has:
        if capability == "embedding" and "completion" in has:
            raise api.Failure(501, "This server does not support embeddings. Start it with `--embeddings`")
        raise api.Failure(400, f'"{asked}" does not support {verb}')
    if not os.path.exists(blob):
        raise api.Failure(404, f'model "{asked}" not found, try pulling it first')
    try:
        layers = describe.read_layers(app, manifest)
    except (OSError, ValueError) as error:
        raise api.Failure(500, str(error)) from None
    return Session(asked, runner.Model(name, manifest, blob, describe.show_details(config, manifest)), layers)


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
        raise api.Failure(503, "server busy, please try again.  maximum pending requests exceeded") from None
    except runner.LoadError as error:
        raise api.Failure(500, str(error)) from None


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
                return _give_up(app, handler, {"model": found.asked, "created_at": api.now(), **piece("")}, stream)
            if stream and shown:
                shown.pop()
                if not handler.responded:
                    handler.begin_stream()
                handler.send_line({"model": found.asked, "created_at": api.now(), **piece(token), "done": False})
        text = answer.tokens[-1] if stream and answer.tokens else "".join(answer.tokens)
        last = {"model": found.asked, "created_at": api.now(), **piece(text), "done": True}
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
    handler.send_json(
        200, {"model": found.asked, "created_at": api.now(), **empty, "done": True, "done_reason": reason}
    )


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
