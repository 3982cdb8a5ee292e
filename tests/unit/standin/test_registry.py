# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry as a separate program: faults from a file, and a log."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request

import pytest

from tests.conftest import ROOT
from tests.standin import until
from tests.standin.registry import make_model

MANIFEST = "/v2/library/model/manifests/latest"


class Program(t.NamedTuple):
    url: str
    faults: pathlib.Path
    log: pathlib.Path

    def misbehave(self, *faults: t.Any) -> None:
        new = self.faults.with_suffix(".new")
        new.write_text(json.dumps(faults))
        new.replace(self.faults)

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture
def program(tmp_path: pathlib.Path) -> t.Iterator[Program]:
    make_model(tmp_path / "store", "model", 50_000, seed=1)
    faults, log = tmp_path / "faults.json", tmp_path / "log"
    faults.write_text("[]")
    log.touch()
    command: list[str | pathlib.Path] = [
        sys.executable,
        "-m",
        "tests.standin.registry",
        "--store",
        tmp_path / "store",
        "--port",
        "0",
    ]
    with subprocess.Popen(
        [*command, "--faults", faults, "--log", log], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            yield Program(process.stdout.readline().strip(), faults, log)
        finally:
            process.kill()


def test_the_current_faults_of_the_file_apply(program: Program) -> None:
    assert program.get(MANIFEST)[0] == 200
    program.misbehave({"match": "/manifests/", "status": 503, "body": "busy", "times": 1})
    assert program.get(MANIFEST) == (503, b"busy")
    assert program.get(MANIFEST)[0] == 200, "once is once, as long as the file stays as it is"
    program.misbehave({"match": "/manifests/", "status": 403, "times": 1})
    assert program.get(MANIFEST)[0] == 403
    program.misbehave()
    assert program.get(MANIFEST)[0] == 200


@pytest.mark.parametrize("wrong", [{"match": "/", "sttus": 503}, {"status": 503}, "x"])
def test_an_unreadable_file_fails_every_request(program: Program, wrong: t.Any) -> None:
    program.misbehave(wrong)
    status, body = program.get(MANIFEST)
    assert status == 500
    assert body.startswith(str(program.faults).encode())


def test_the_log_contains_what_was_sent(program: Program) -> None:
    body = program.get(MANIFEST)[1]
    program.get("/nothing")
    # A request is over a little after its answer, so the two may change places.
    lines = until(lambda: len(found := program.log.read_text().splitlines()) == 2 and found)
    rows = sorted(map(json.loads, lines), key=lambda row: -row["sent"])
    assert all(0 <= time.time() - row.pop("began") < 60 for row in rows)
    assert rows == [
        {"method": "GET", "path": MANIFEST, "range": "", "status": 200, "sent": len(body)},
        {"method": "GET", "path": "/nothing", "range": "", "status": 404, "sent": 0},
    ]
