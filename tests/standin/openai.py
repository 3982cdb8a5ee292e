# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenAI-shaped routes under /v1."""

from __future__ import annotations

import time
import typing as t

from . import api, gguf, gojson, inference, names, runner

if t.TYPE_CHECKING:
    from .server import Handler, Server


def _failure(handler: Handler, status: int, text: str) -> None:
    kind = {404: "not_found_error", 400: "invalid_request_error"}.get(status, "api_error")
    error = {"message": text, "type": kind, "param": None, "code": None}
    handler.send_json(status, {"error": error}, charset=False)


def _row(name: names.Name, modified: float) -> dict[str, t.Any]:
    return {"id": name.display, "object": "model", "created": int(modified), "owned_by": name.namespace}


def models(app: Server, handler: Handler) -> None:
    rows = [_row(entry.name, entry.modified) for entry in app.store.entries()]
    handler.send_json(200, {"object": "list", "data": rows or None}, charset=False)


def model(app: Server, handler: Handler, asked: str) -> None:
    name = api.resolve(app, asked)
    if not name.valid or app.store.find(name) is None:
        return _failure(handler, 404, f"model '{asked}' not found")
    return handler.send_json(200, _row(name, app.store.modified(name)), charset=False)


def _complete(app: Server, handler: Handler, chat: bool) -> None:
    try:
        request = handler.read_json()
        found = inference.session(app, request, "completion", "chat" if chat else "generate")
        prompt = request.get("prompt") or "\0".join(str(m.get("content")) for m in request.get("messages") or [])
        if isinstance(prompt, list):
            prompt = "\0".join(map(str, prompt))
        limit = request.get("max_tokens")
        options = {"seed": request.get("seed") or 0, **({"num_predict": limit} if limit else {})}
        with inference.loaded(app, found, request):
            answer = runner.answer(
                found.model.manifest, prompt, options, request.get("response_format"), app.settings.words
            )
            if not request.get("stream"):
                inference.wait_at_the_gate(app, handler)
                time.sleep(app.settings.token_seconds * len(answer.tokens))
    except api.Failure as error:
        return _failure(handler, error.status, error.text)
    kind = "chat.completion" if chat else "text_completion"
    base = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{int(found.model.manifest.digest[:4], 16) % 1000}",
        "object": kind, "created": int(time.time()), "model": found.asked, "system_fingerprint": "fp_ollama",
    }  # fmt: skip
    usage = {
        "prompt_tokens": answer.prompt_tokens, "completion_tokens": len(answer.tokens),
        "total_tokens": answer.prompt_tokens + len(answer.tokens),
    }  # fmt: skip
    if not request.get("stream"):
        text = "".join(answer.tokens)
        message = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, **message, "finish_reason": answer.done_reason}
        return handler.send_json(200, {**base, "choices": [choice], "usage": usage}, charset=False)
    if chat:
        base["object"] = "chat.completion.chunk"
    handler.begin_stream("text/event-stream")
    for number, token in enumerate([*answer.tokens, None]):
        if number == 1:
            inference.wait_at_the_gate(app, handler)
        text = token or ""
        if token is not None:
            time.sleep(app.settings.token_seconds)
        message = {"delta": {"role": "assistant", "content": text}} if chat else {"text": text}
        reason = answer.done_reason if token is None else None
        chunk = {**base, "choices": [{"index": 0, **message, "finish_reason": reason}]}
        handler.send_text(f"data: {gojson.dumps(chunk)}\n\n")
    if (request.get("stream_options") or {}).get("include_usage"):
        handler.send_text(f"data: {gojson.dumps({**base, 'choices': [], 'usage': usage})}\n\n")
    handler.send_text("data: [DONE]\n\n")
    return handler.end_stream()


def chat(app: Server, handler: Handler) -> None:
    _complete(app, handler, chat=True)


def completions(app: Server, handler: Handler) -> None:
    _complete(app, handler, chat=False)


def embeddings(app: Server, handler: Handler) -> None:
    try:
        request = handler.read_json()
        found = inference.session(app, request, "embedding", "embeddings")
        given = request.get("input") or []
        texts = [given] if isinstance(given, str) else given
        with inference.loaded(app, found, request):
            length = int(gguf.read_header(found.model.blob).arch("embedding_length") or 64)
    except api.Failure as error:
        return _failure(handler, error.status, error.text)
    data = [
        {"object": "embedding", "embedding": runner.embedding(found.model.manifest, text, length), "index": number}
        for number, text in enumerate(texts)
    ]
    count = sum(1 + len(text.split()) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return handler.send_json(200, {"object": "list", "data": data, "model": found.asked, "usage": usage}, charset=False)
