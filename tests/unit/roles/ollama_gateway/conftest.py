# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways that several tests share."""

from __future__ import annotations

import typing as t

import pytest

from tests.unit.roles.ollama_gateway.gateway import Gateway, running


@pytest.fixture(scope="package")
def alone() -> t.Iterator[Gateway]:
    with running(
        ollama_gateway_rate=0,
        ollama_gateway_failure_rate=0,
        ollama_gateway_max_body="1m",
    ) as gateway:
        yield gateway


@pytest.fixture(scope="package")
def shared() -> t.Iterator[Gateway]:
    with running(fleet=True, ollama_gateway_rate=0) as gateway:
        yield gateway
