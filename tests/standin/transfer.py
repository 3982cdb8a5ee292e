# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes that change the store: pull, push, create, copy, delete, blobs. Texts are those of the recordings."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import typing as t

from . import api, create, download, gojson, names, pull, store, web

if t.TYPE_CHECKING:
    from .server import Handler, Server

Json = dict[str, t.Any]
_SHA256 = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


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
    except (download.PullError, create.CreateError, web.WebError, store.StoreError) as error:
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
    name = names.parse(api.asked_name(request))
    if not name.valid:
        raise api.Failure(400, "invalid model name")
    name = app.store.canonical(name)
    insecure = bool(request.get("insecure"))

    def work(report: pull.Report) -> None:
        app.puller.pull(name, insecure, report, handler.gone)

    _run_stream(handler, request.get("stream") is not False, work)


def push_model(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    name = api.resolve(app, api.asked_name(request))
    if not name.valid:
        raise api.Failure(400, "invalid model name")
    insecure = bool(request.get("insecure"))
    base = f"{'http' if insecure else 'https'}://{name.host}/v2/{name.namespace}/{name.model}"

    def work(report: pull.Report) -> None:
        report({"status": "retrieving manifest"})
        try:
            manifest = app.store.manifest(name)
        except (OSError, ValueError, store.StoreError):
            raise download.PullError("couldn't retrieve manifest") from None
        for layer in manifest.all_layers:
            app.puller.fetch("HEAD", f"{base}/blobs/{layer.digest}", insecure).close()
            line = {"status": f"pushing {layer.digest[7:19]}", "digest": layer.digest}
            report({**line, "total": layer.size, "completed": layer.size})
        report({"status": "pushing manifest"})
        raise download.PullError("405: the registry does not take manifests")

    _run_stream(handler, request.get("stream") is not False, work)


def _base_model(app: Server, handler: Handler, source: str, report: pull.Report) -> names.Name:
    """Return the model that `from` names; pull it if it is missing."""

    def but_success(line: Json) -> None:
        if line["status"] != "success":
            report(line)

    base = api.resolve(app, source)
    if not base.valid:
        raise create.CreateError("invalid model name")
    if app.store.find(base) is None:
        app.puller.pull(base, False, but_success, handler.gone)
    return base


def create_model(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    name = names.parse(api.asked_name(request))
    if not name.valid:
        raise api.Failure(400, "invalid model name")
    name = app.store.canonical(name)
    for digest in (request.get("files") or {}).values():
        if not _SHA256.fullmatch(digest):
            raise api.Failure(400, "invalid digest format")
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
    source_name, target = api.resolve(app, source), names.parse(destination)
    if not source_name.valid:
        raise api.Failure(400, f'source "{source}" is invalid')
    if not target.valid:
        raise api.Failure(400, f'destination "{destination}" is invalid')
    with app.store.lock:
        path = app.store.find(source_name)
        if path is None:
            raise api.Failure(404, f'model "{source}" not found')
        with open(path, "rb") as stream:
            app.store.write_manifest(app.store.canonical(target), stream.read())
    handler.send_plain(200, content_type=None)


def delete_model(app: Server, handler: Handler) -> None:
    request = handler.read_json()
    asked = api.asked_name(request)
    if not asked:
        raise api.Failure(400, "model is required")
    name = api.resolve(app, asked)
    if not name.valid:
        raise api.Failure(400, f'name "{asked}" is invalid')
    with app.store.lock:
        try:
            app.store.remove(name)
        except FileNotFoundError:
            raise api.Failure(404, f"model '{asked}' not found") from None
        except (OSError, ValueError, store.StoreError) as error:
            raise api.Failure(500, str(error)) from None
    handler.send_plain(200, content_type=None)


def blob_head(app: Server, handler: Handler, digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise api.Failure(400, "invalid digest format")
    if not app.store.has_blob(digest):
        raise api.Failure(404, f'blob "{digest}" not found')
    handler.send_plain(200, content_type=None)


def blob_post(app: Server, handler: Handler, digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise api.Failure(400, "invalid digest format")
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
        raise api.Failure(400, f'digest mismatch, expected "{digest}", got "{got}"')
    handler.send_plain(201, content_type=None)
