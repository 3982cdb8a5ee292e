# SPDX-License-Identifier: GPL-3.0-or-later
"""The function for each path and method."""

from __future__ import annotations

import re
import typing as t

from . import api, openai

Action = t.Callable[..., None]

_TABLE: dict[str, dict[str, Action]] = {
    "/": {"GET": api.root, "HEAD": api.root},
    "/api/version": {"GET": api.version, "HEAD": api.version},
    "/api/status": {"GET": api.status},
    "/api/tags": {"GET": api.tags, "HEAD": api.tags},
    "/api/ps": {"GET": api.ps},
    "/api/show": {"POST": api.show},
    "/api/pull": {"POST": api.pull_model},
    "/api/push": {"POST": api.push_model},
    "/api/create": {"POST": api.create_model},
    "/api/copy": {"POST": api.copy_model},
    "/api/delete": {"DELETE": api.delete_model},
    "/api/blobs/([^/]+)": {"HEAD": api.blob_head, "POST": api.blob_post},
    "/api/generate": {"POST": api.generate},
    "/api/chat": {"POST": api.chat},
    "/api/embed": {"POST": api.embed},
    "/api/embeddings": {"POST": api.embeddings},
    "/v1/models": {"GET": openai.models},
    "/v1/models/(.+)": {"GET": openai.model},
    "/v1/chat/completions": {"POST": openai.chat},
    "/v1/completions": {"POST": openai.completions},
    "/v1/embeddings": {"POST": openai.embeddings},
}

ROUTES = [(re.compile(path), methods) for path, methods in _TABLE.items()]
