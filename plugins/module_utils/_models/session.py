# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that all steps of one call share: the options, the server, its store and facts about them.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass, field

from .._core.name import Name
from .._core.progress import Progress
from .._gpu import memory as gpu_memory
from .._server.api import Client
from .._store.audit import Audit
from .._store.state import Memory
from .._store.store import Store
from .registry import Source


@dataclass(frozen=True)
class Options:
    """The options of a call; times are in seconds, and a deadline of 0 means none."""

    mirrors: tuple[Source, ...] = ()
    mirrors_trusted: bool = False
    """Whether mirrors are used if neither a pin nor the public registry confirms the digest."""
    insecure: bool = False
    verify: str = "changed"
    stall_timeout: float = 90.0
    deadline: float = 0.0
    parallel: int = 1
    detach: bool = False
    """Return before the first step that takes long or removes an undeclared model."""
    unchanged: bool = False
    """Return before the first step of any kind, and before models are loaded or tested."""
    vram: int = 0
    """The GPU memory of the host in bytes; 0 if it is unknown or not relevant."""
    gpu_settings: gpu_memory.Settings = field(default_factory=gpu_memory.Settings)
    exclusive: bool = False
    keep: tuple[Name, ...] = ()
    all_or_nothing: bool = False
    """Fail before any change if a model has no source."""
    build_timeout: float = 600.0
    load_timeout: float = 300.0
    unit: str | None = None
    """The systemd unit of the server on this host, whose journal lists the compute devices."""
    environment: t.Mapping[str, str] | None = None
    """Environment variables for requests to registries, instead of those of this process."""


@dataclass
class Session:
    """One server and its store during one call.

    :param store: None if the store is not accessible; digests are then those that the server reports.
    :param lists: whether the server reads lists of variants.
    :param version: None in check mode on a host without a server.
    """

    client: Client
    store: Store | None
    memory: Memory
    options: Options = field(default_factory=Options)
    lists: bool = True
    version: str | None = None
    progress: Progress = field(default_factory=Progress)
    audit: Audit = field(default_factory=lambda: Audit({}))
    started: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float:
        """The end of the call on the monotonic clock."""
        return self.started + self.options.deadline if self.options.deadline else float("inf")

    def count(self, seen: Audit) -> None:
        """Add the cost of an audit to that of the call."""
        self.audit.hashed_blobs += seen.hashed_blobs
        self.audit.hashed_bytes += seen.hashed_bytes
