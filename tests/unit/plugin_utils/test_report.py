# SPDX-License-Identifier: GPL-3.0-or-later
"""The report shows what was observed, with its time; a host without an answer has its row."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

import jsonschema
import pytest
from ansible_collections.kaido.ollama.plugins.plugin_utils.output import is_human_readable
from ansible_collections.kaido.ollama.plugins.plugin_utils.report import age, build
from ansible_collections.kaido.ollama.plugins.plugin_utils.report_html import share_bar
from ansible_collections.kaido.ollama.plugins.plugin_utils.report_page import page
from ansible_collections.kaido.ollama.plugins.plugin_utils.report_table import table

from tests.conftest import ROOT
from tests.unit.plugin_utils import fleet

SCHEMA = json.loads((ROOT / "docs/report.schema.json").read_text())
HOSTILE = fleet.HOSTILE
DIGEST = "sha256:" + "ab" * 32


def converged(**more: t.Any) -> dict[str, t.Any]:
    """Return the row of a model as module model returns it."""
    row = {"name": "a:1b", "state": "present", "digest_before": DIGEST, "digest_after": DIGEST, "size": 2_019_393_189}
    return {**row, "source": None, "actions": [], "damage": [], "verified_at": int(fleet.NOW) - 7300, **more}


def hosts(*rows: dict[str, t.Any], version: str | None = "0.35.1", **more: t.Any) -> dict[str, dict[str, t.Any]]:
    return {"h": {"ollama_report": {"version": version, "compute": [], "models": list(rows), **more}}}


def verification(facts: t.Any, *, check: bool = False) -> str:
    """Return the cell of the only model."""
    titles, row, *_notes = table(build(facts, check=check, now=fleet.NOW), fleet.NOW)
    start = titles.index("VERIFICATION")
    return re.split(r"\s{2,}", row[start:].strip())[0]


@pytest.mark.parametrize(
    ("row", "check", "shown"),
    [
        (converged(), False, "verified 2 h ago"),
        (converged(), True, "verified 2 h ago"),
        (converged(verified_at=None), False, "not checked"),
        (converged(digest_before=None, verified_at=None), True, "missing"),
        (converged(damage=[{"digest": DIGEST, "kind": "missing"}]), True, "damaged: 1 blob"),
        (converged(damage=[{"digest": DIGEST, "kind": "missing"}] * 2), True, "damaged: 2 blobs"),
        # It was repaired and hashed in this run.
        (
            converged(damage=[{"digest": DIGEST, "kind": "missing"}], verified_at=int(fleet.NOW)),
            False,
            "verified 0 s ago",
        ),
    ],
)
def test_verification_is_an_observation(row: dict[str, t.Any], check: bool, shown: str) -> None:
    assert verification(hosts(row), check=check) == shown


def test_a_host_without_a_server_is_not_shown_as_running() -> None:
    report = build(hosts(converged(digest_before=None, verified_at=None), version=None), check=True, now=fleet.NOW)
    assert report["hosts"][0]["state"] == "not_installed"
    assert table(report, fleet.NOW)[1].split()[:3] == ["h", "not", "installed"]


def test_repairs_and_removals_have_their_line() -> None:
    rows = (
        converged(damage=[{"digest": DIGEST, "kind": "content"}], source="registry.ollama.ai"),
        converged(name="old:1b", state="absent", digest_after=None),
    )
    lines = table(build(hosts(*rows, removed=["stray:1b"]), check=False, now=fleet.NOW), fleet.NOW)
    assert lines[-3:] == [
        "h: a:1b: 1 blob damaged; repaired from registry.ollama.ai",
        "h: old:1b: removed",
        "h: stray:1b: removed, not declared",
    ]


@pytest.mark.parametrize(
    ("count", "lines"),
    [(None, []), (0, []), (1, ["h: 1 model is not declared"]), (2, ["h: 2 models are not declared"])],
)
def test_other_models_are_counted_where_only_declared_ones_were_observed(count: int | None, lines: list[str]) -> None:
    report = build(hosts(converged(), undeclared=count), check=False, now=fleet.NOW)
    assert table(report, fleet.NOW)[2:] == lines
    assert report["hosts"][0]["undeclared"] == count


def test_every_host_of_the_fleet_has_its_row_and_its_reason() -> None:
    report = fleet.report()
    states = {row["host"]: row["state"] for row in report["hosts"]}
    assert states == {
        "hecate": "running",
        "dev1": "running",
        "dev2": "not_running",
        "dev3": "unreachable",
        "dev4": "failed",
        "gateway": "no_server",
    }
    text = "\n".join(table(report, fleet.NOW))
    for expected in (
        "dev2     not running",
        "dev3     unreachable",
        "dev3: Failed to connect to the host via ssh: No route to host",
        "dev4: ollama_models[0].name: invalid name 'Lama 3'; expected a model name",
        "0.0.0.0:11443 (gateway)",
        "127.0.0.1:11434, 0.0.0.0:11480 (mirror)",
        "chat:latest = llama3.2:3b",
        "dev1: not declared: mistral:7b",
        "dev1: leftovers: 3 files, 9.0 GB",
        "dev1: unfinished downloads: 1, 2.0 GB",
        "dev1: next run: release: installs 0.35.1",
        "dev1: next run: gemma3:12b: would be pulled from registry.ollama.ai, 8.1 GB",
    ):
        assert expected in text
    warnings = [f"{row['host']}: {row['text']}" for row in report["warnings"]]
    assert "dev1: gemma3:12b: missing" in warnings
    assert "dev2: model store /usr/share/ollama/.ollama/models: does not exist" in warnings
    assert any(text.startswith("dev1: Ollama 0.34.3 is vulnerable (CVE-") for text in warnings)


def test_a_host_of_a_later_batch_is_neither_a_server_nor_none() -> None:
    report = build({"later": {"ollama_report_waits": True}}, check=False, now=fleet.NOW)
    assert [row["state"] for row in report["hosts"]] == ["not_contacted"]
    assert (report["summary"]["servers"], report["warnings"]) == (0, [])
    assert "later  not contacted" in "\n".join(table(report, fleet.NOW))


def test_an_observation_outranks_what_a_converge_left() -> None:
    facts = {"h": {**hosts(converged(source="http://hecate:11480"))["h"]}}
    facts["h"]["ollama_host_info"] = fleet.observed(fleet.model("a:1b", "damaged", damaged_blobs=1))
    [row] = build(facts, check=False, now=fleet.NOW)["hosts"][0]["models"]
    assert (row["state"], row["source"]) == ("damaged", "http://hecate:11480")
    facts["h"]["ollama_host_info"] = {"unreachable": True, "msg": "no route"}
    assert build(facts, check=False, now=fleet.NOW)["hosts"][0]["models"][0]["state"] == "verified"


@pytest.mark.parametrize(
    ("preflight", "state"),
    [
        ({"release": {"before": "0.35.1"}}, "not_running"),
        ({"release": {"before": None}}, "not_installed"),
        ({}, "not_installed"),
        ({"release": "hostile"}, "not_installed"),
    ],
)
def test_check_mode_distinguishes_a_stopped_server_from_a_missing_one(preflight: dict[str, t.Any], state: str) -> None:
    facts = {"h": {"ollama__preflight": preflight, "ollama_report": {"version": None, "models": []}}}
    assert build(facts, check=True, now=fleet.NOW)["hosts"][0]["state"] == state


def test_what_the_scheduled_verification_found_is_a_warning() -> None:
    found = {"finished_at": 1, "damaged": ["a:1b"]}
    report = build({"h": {"ollama_host_info": fleet.observed(scheduled_verification=found)}}, check=False, now=2.0)
    assert report["warnings"] == [{"host": "h", "text": "a:1b: damaged, found by the scheduled verification"}]


def test_ages() -> None:
    ages = [-5, 59, 60, 3599, 3600, 86399, 2 * 86400 - 1, 2 * 86400]
    assert [age(seconds) for seconds in ages] == ["0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "47 h", "2 d"]


@pytest.mark.parametrize("check", [False, True])
def test_the_report_follows_its_schema(check: bool) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(fleet.report(), SCHEMA)
    jsonschema.validate(build(hosts(converged(), converged(digest_before=None)), check=check, now=1.0), SCHEMA)
    jsonschema.validate(build({"h": {}}, check=check, now=1.0), SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**fleet.report(), "more": 1}, SCHEMA)


def hostile() -> dict[str, t.Any]:
    """Return a report in which every text is hostile."""

    def spoil(value: t.Any, key: str = "") -> t.Any:
        if isinstance(value, dict):
            return {name: spoil(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [spoil(item, key) for item in value]
        return value + fleet.HOSTILE if isinstance(value, str) and key not in ("state", "created_at") else value

    return t.cast("dict[str, t.Any]", spoil(fleet.report()))


class Elements(html.parser.HTMLParser):
    """Collects the elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_everything_in_the_page_is_escaped() -> None:
    """Hostile text changes neither the elements of the page nor the names of their attributes."""
    safe, spoilt = Elements(page(fleet.report(), fleet.NOW)), Elements(page(hostile(), fleet.NOW))
    assert spoilt.tags == safe.tags
    assert [name for name, _value in spoilt.attributes] == [name for name, _value in safe.attributes]
    assert "\x1b" not in page(hostile(), fleet.NOW)
    assert "".join(table(hostile(), fleet.NOW)).isprintable()


def two_hosts() -> dict[str, dict[str, t.Any]]:
    """Return the facts of two hosts, one of them with every kind of value."""
    facts = fleet.facts()
    seen = facts["hecate"]["ollama_host_info"]
    full = {**facts["dev1"], "ollama_host_info": {**seen, "models": seen["models"][:1]}, **hosts(converged())["h"]}
    full["ansible_facts"] = {"ollama_listening": [{"service": "server", "address": "127.0.0.1:11434"}]}
    return {"odd": full, "usual": fleet.facts()["dev1"]}


def mutations() -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """Yield these facts with another value in each place of the first host."""
    values: list[t.Any] = [None, HOSTILE, -1, 10**400, 1e999, True, [None], {"a": 1}, [[]] * 6000]

    def places(value: t.Any, path: tuple[t.Any, ...]) -> t.Iterator[tuple[t.Any, ...]]:
        yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            yield from places(item, (*path, key))

    for path in places(two_hosts()["odd"], ()):
        for number, value in enumerate(values if path else ()):
            facts = two_hosts()
            part: t.Any = facts["odd"]
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = value
            yield f"{path} {number}", facts


def test_no_result_of_a_host_ends_the_report_of_the_others() -> None:
    usual = build(two_hosts(), check=True, now=fleet.NOW)["hosts"][1]
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for what, facts in mutations():
        report = build(facts, check=True, now=fleet.NOW)
        assert not list(validator.iter_errors(report)), what
        assert "".join(table(report, fleet.NOW)).isprintable(), what
        assert page(report, fleet.NOW), what
        assert report["hosts"][1] == usual, what


def test_a_host_with_an_invalid_result_is_named_with_it() -> None:
    facts = {**fleet.facts(), "dev1": {"ollama_host_info": fleet.observed(fleet.model("a:1b", size="big"))}}
    row = build(facts, check=True, now=fleet.NOW)["hosts"][0]
    assert row["state"] == "failed"
    assert row["reason"] == (
        "the host returned an invalid result: ollama_host_info.models[0].size: invalid value 'big';"
        " expected a whole number"
    )


def test_the_page_loads_nothing() -> None:
    text = fleet.html()
    elements = Elements(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(elements.tags)
    assert not [name for name, _value in elements.attributes if name == "src" or name.startswith("on")]
    assert all((value or "").startswith("#") for name, value in elements.attributes if name == "href")
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_warnings_come_first() -> None:
    text = fleet.html()
    assert text.index("7 warnings") < text.index("<h2>Hosts</h2>") < text.index('id="host-dev1"')


def test_hosts_that_need_attention_are_first_in_the_table_and_linked_from_the_warnings() -> None:
    text = fleet.html()
    table_of_hosts = text[text.index("<h2>Hosts</h2>") :]
    names = re.findall(r'href="#host-(\w+)"', table_of_hosts)
    assert names == ["dev2", "dev3", "dev4", "dev1", "hecate", "gateway"]
    assert '<li><a href="#host-dev3">dev3</a>' in text


def test_many_warnings_of_a_host_leave_room_for_those_of_others() -> None:
    facts: dict[str, dict[str, t.Any]] = {
        "a": {"ollama_host_info": fleet.observed(*(fleet.model(f"m{number}:1b", "missing") for number in range(50)))},
        "b": {"ollama_report_unreachable": "no route"},
    }
    report = build(facts, check=True, now=fleet.NOW)
    text = page(report, fleet.NOW)
    assert len(report["warnings"]) == 51
    assert "51 warnings" in text
    assert text.count('<li><a href="#host-a">') == 21
    assert "and 30 more" in text
    assert "unreachable: no route" in text


def test_equal_devices_are_counted() -> None:
    gpu = {"library": "CUDA", "description": "NVIDIA H100"}
    seen = fleet.observed(compute=[gpu] * 8, gpus=[{"name": "NVIDIA H100", "vram": 80 * fleet.GB}] * 8)
    report = build({"h": {"ollama_host_info": seen}}, check=True, now=fleet.NOW)
    assert report["hosts"][0]["compute"] == "8 x CUDA NVIDIA H100"
    assert "GPU memory, 8 x NVIDIA H100" in page(report, fleet.NOW)


def test_a_fleet_without_problems_has_no_warnings() -> None:
    facts = {"h": {"ollama_host_info": fleet.observed(fleet.model("a:1b"))}}
    assert "No warnings" in page(build(facts, check=True, now=fleet.NOW), fleet.NOW)


@pytest.mark.parametrize(
    ("used", "total", "width"),
    [(0, 10, "0.0%"), (5, 10, "50.0%"), (12, 10, "100.0%"), (-1, 10, "0.0%"), (1, 0, "0.0%")],
)
def test_bars_stay_within_their_track(used: float, total: float, width: str) -> None:
    assert f"width:{width}" in share_bar("Disk", used, total, "")


def test_the_newest_benchmark_is_plotted() -> None:
    text = fleet.html()
    assert text.count("<svg") == 2
    assert "Benchmark, 23 h ago" in text or "Benchmark, 24 h ago" in text
    assert "llama3.2:3b: num_parallel: 4, since 8 parallel requests add 3 % throughput" in text
    [row] = fleet.report()["hosts"][-1]["benchmark"]["models"]
    assert (row["knee"], len(row["runs"])) == (4, 4)


@pytest.mark.parametrize(
    ("callback", "human"),
    [
        ("default", True),
        ("ansible.builtin.minimal", True),
        ("community.general.yaml", True),
        ("ansible.posix.jsonl", False),
        ("json", False),
        ("ansible.builtin.junit", False),
        ("our.site.events", False),
    ],
)
def test_other_text_goes_to_stdout_only_with_human_readable_callbacks(callback: str, human: bool) -> None:
    assert is_human_readable(callback) is human


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1200, 800, 500])
def test_a_browser_shows_the_page_without_horizontal_scrolling(tmp_path: Path, width: int) -> None:
    """Chromium runs the page's layout; a copy with a script reports the width that it needs."""
    facts = {**fleet.facts(), "x" * 80: {"ollama_host_info": fleet.observed(fleet.model("y" * 300))}}
    plots = {host: row["plots"] for host, row in fleet.benchmarks().items()}
    text = page(build(facts, check=True, now=fleet.NOW, benchmark=fleet.benchmarks()), fleet.NOW, plots)
    probe = "<script>document.title = 'width ' + document.documentElement.scrollWidth</script></body>"
    path = tmp_path / "report.html"
    path.write_text(re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", probe))
    argv = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    argv += [f"--window-size={width},900", "--dump-dom", path.as_uri()]
    dom = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    match = re.search(r"<title>width (\d+)</title>", dom)
    assert match
    assert int(match.group(1)) <= width
