# SPDX-License-Identifier: GPL-3.0-or-later
"""The function for each path and method."""

from __future__ import annotations

import re
import typing as t

from . import api, describe, inference, openai, transfer

Action = t.Callable[..., None]

_TABLE: dict[str, dict[str, Action]] = {
    "/": {"GET": api.root, "HEAD": api.root},
    "/api/version": {"GET": api.version, "HEAD": api.version},
    "/api/status": {"GET": api.status},
    "/api/tags": {"GET": describe.tags, "HEAD": describe.tags},
    "/api/ps": {"GET": describe.ps},
    "/api/show": {"POST": describe.show},
    "/api/pull": {"POST": transfer.pull_model},
    "/api/push": {"POST": transfer.push_model},
    "/api/create": {"POST": transfer.create_model},
    "/api/copy": {"POST": transfer.copy_model},
    "/api/delete": {"DELETE": transfer.delete_model},
    "/api/blobs/([^/]+)": {"HEAD": transfer.blob_head, "POST": transfer.blob_post},
    "/api/generate": {"POST": inference.generate},
    "/api/chat": {"POST": inference.chat},
    "/api/embed": {"POST": inference.embed},
    "/api/embeddings": {"POST": inference.embeddings},
    "/v1/models": {"GET": openai.models},
    "/v1/models/(.+)": {"GET": openai.model},
    "/v1/chat/completions": {"POST": openai.chat},
    "/v1/completions": {"POST": openai.completions},
    "/v1/embeddings": {"POST": openai.embeddings},
}

ROUTES = [(re.compile(path), methods) for path, methods in _TABLE.items()]
