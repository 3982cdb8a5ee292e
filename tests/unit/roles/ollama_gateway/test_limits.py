# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of wrong tokens, connections and memory."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from tests.standin import until
from tests.unit.roles.ollama_gateway.gateway import ADMIN, USER, is_refusal, nginx, running, status


@nginx
def test_wrong_tokens_are_limited_and_right_ones_are_not() -> None:
    with running(ollama_gateway_failure_rate=2, ollama_gateway_rate=0) as gateway:
        wrong = [gateway.ask("GET /api/tags", token="wrong") for _turn in range(30)]
        assert {status(answer) for answer in wrong} == {401, 429}
        assert all(is_refusal(answer) for answer in wrong)
        assert [status(gateway.ask("GET /api/tags")) for _turn in range(30)] == [200] * 30
        assert status(gateway.ask("GET /nothing")) == 404


@nginx
def test_connections_are_limited_for_each_token_and_for_all() -> None:
    with running(ollama_gateway_rate=0, ollama_gateway_token_connections=3, ollama_gateway_connections=5) as gateway:
        gateway.server.hold.clear()
        answers: list[tuple[str, int]] = []

        def ask(token: str) -> None:
            answers.append((token, status(gateway.ask("POST /api/show", token=token, body=b"{}", wait=20.0))))

        threads: list[threading.Thread] = []
        before = len(gateway.server.asked)
        for token in [USER] * 5 + [ADMIN] * 5:
            threads.append(threading.Thread(target=ask, args=(token,)))
            threads[-1].start()
            until(lambda: len(gateway.server.asked) - before + len(answers) == len(threads), "it is held or refused")
        assert sorted(answers) == [(ADMIN, 429)] * 3 + [(USER, 429)] * 2
        gateway.server.hold.set()
        for thread in threads:
            thread.join(20)
        assert sorted(code for _token, code in answers) == [200] * 5 + [429] * 5


@nginx
def test_large_bodies_that_wait_are_not_in_memory() -> None:
    with running(ollama_gateway_rate=0) as gateway:
        gateway.server.hold.clear()
        master = int((gateway.folder / "pid").read_text())
        workers = subprocess.run(
            ["pgrep", "-P", str(master)], capture_output=True, text=True, check=True
        ).stdout.split()

        def memory() -> int:
            texts = [Path(f"/proc/{pid}/status").read_text() for pid in workers]
            return sum(int(text.split("VmRSS:")[1].split()[0]) << 10 for text in texts)

        before = memory()
        body = b'{"model":"tiny","prompt":"' + b"x" * (20 << 20) + b'"}'
        threads = [
            threading.Thread(target=gateway.ask, args=("POST /api/chat",), kwargs={"body": body, "wait": 20.0})
            for _turn in range(6)
        ]
        for thread in threads:
            thread.start()
        until(lambda: len(gateway.server.asked) == len(threads), "all have reached the server")
        held = memory() - before
        gateway.server.hold.set()
        for thread in threads:
            thread.join(20)
        assert len(gateway.server.asked) == len(threads)
        # They are 120 MB.
        assert held < 20 << 20
