# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one self-contained HTML page without scripts and external resources. Pure.

PRIVATE to the collection: it may change at any time.
"""

from __future__ import annotations

import datetime
import os
import typing as t

from ..module_utils._core.progress import human
from .report import STATES, Facts, age, counted, remarks, verified
from .report_html import escape, share_bar
from .report_table import listens

# The maximum number of warnings, pending changes and remarks of a host that are shown.
_MAX_TEXTS = 20
_STYLE = os.path.join(os.path.dirname(__file__), "report_page.css")
# With this policy, a browser executes and loads nothing, even if the page contained a malicious text of a server.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LEVELS = {
    "running": "ok",
    "no_server": "quiet",
    "not_contacted": "quiet",
    "not_running": "bad",
    "not_installed": "warn",
    "unreachable": "bad",
    "failed": "bad",
}
_ORDER = ("bad", "warn", "ok", "quiet")
_BADGES = {"verified": "ok", "not_checked": "quiet", "damaged": "bad", "missing": "warn"}


def page(report: Facts, now: float, plots: t.Mapping[str, t.Sequence[str]] | None = None) -> str:
    """Return the page.

    :param now: seconds since the epoch.
    :param plots: the plots of the benchmark by host: SVG elements with escaped text.
    """
    with open(_STYLE, encoding="utf-8") as file:
        style = file.read()
    sections = [
        _header(report),
        _warnings(report["warnings"]),
        _fleet(report["hosts"], now),
        *(_host(host, now, (plots or {}).get(host["host"]) or ()) for host in report["hosts"]),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Ollama servers, {escape(report['created_at'])}</title>\n"
        f"<style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, sections))
        + "\n<footer>Created by kaido.ollama.report</footer>\n</main></body></html>\n"
    )


def _header(report: Facts) -> str:
    total = report["summary"]
    created = datetime.datetime.strptime(report["created_at"], "%Y-%m-%dT%H:%M:%SZ")
    running = total["running"] == total["servers"]
    tiles = [
        (f"{total['running']} / {total['servers']}", "servers running", "ok" if running else "bad"),
        (total["models"], "models", "ok"),
        (total["damaged"], "damaged", "bad" if total["damaged"] else "ok"),
        (total["missing"], "missing", "warn" if total["missing"] else "ok"),
        (sum(len(host["pending"]) for host in report["hosts"]), "pending changes", "ok"),
    ]
    shown = "".join(
        f'<div class="tile {level}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name, level in tiles
    )
    return (
        f'<header><h1>Ollama servers</h1><p class="quiet">Observed on {created:%d %B %Y, %H:%M} UTC</p>'
        f'<div class="tiles">{shown}</div></header>'
    )


def _warnings(warnings: t.Sequence[Facts]) -> str:
    if not warnings:
        return (
            '<section class="card good"><h2>No warnings</h2>'
            "<p>No host failed, and no model is damaged or missing.</p></section>"
        )
    texts: dict[str, list[str]] = {}
    for row in warnings:
        texts.setdefault(row["host"], []).append(row["text"])
    items = "".join(
        f'<li><a href="#host-{escape(host)}">{escape(host)}</a> {escape(text)}</li>'
        for host, found in texts.items()
        for text in _first(found)
    )
    count = f"{len(warnings)} warning" + ("" if len(warnings) == 1 else "s")
    return f'<section class="card alert"><h2>{count}</h2><ul class="warnings">{items}</ul></section>'


def _first(texts: t.Sequence[str]) -> list[str]:
    """Return the first texts and the number of the others; the JSON contains all of them."""
    more = len(texts) - _MAX_TEXTS
    return [*texts[:_MAX_TEXTS], *([f"and {more} more"] if more > 0 else [])]


def _badge(text: str, level: str) -> str:
    return f'<span class="badge {level}">{escape(text)}</span>'


def _table(titles: t.Sequence[str], rows: t.Iterable[t.Sequence[str]], kind: str) -> str:
    """Return a table of HTML cells. Narrow screens show each row as a card with the titles as labels."""

    def cell(title: str, text: str) -> str:
        return f'<td data-title="{escape(title)}"{" class=empty" if text == "-" else ""}>{text}</td>'

    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join("<tr>" + "".join(cell(title, text) for title, text in zip(titles, row)) + "</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _fleet(hosts: t.Sequence[Facts], now: float) -> str:
    rows = []
    # Hosts that need attention are first.
    for host in sorted(hosts, key=lambda row: _ORDER.index(_LEVELS[row["state"]])):
        present = [model for model in host["models"] if model["state"] != "missing"]
        oldest = min((model for model in present if model["verified_at"]), key=lambda m: m["verified_at"], default=None)
        rows.append(
            (
                f'<a href="#host-{escape(host["host"])}">{escape(host["host"])}</a>',
                _badge(STATES[host["state"]], _LEVELS[host["state"]]),
                escape(host["version"] or "-"),
                escape(host["compute"] or "-"),
                escape(listens(host) or "-"),
                escape(len(present)),
                escape(verified(oldest, now).replace("verified ", "") if oldest else "-"),
            )
        )
    titles = ("Host", "State", "Ollama", "Computes on", "Listens on", "Models", "Oldest verification")
    return f'<section class="card"><h2>Hosts</h2>{_table(titles, rows, "fleet")}</section>'


def _host(host: Facts, now: float, plots: t.Sequence[str]) -> str:
    head = (
        f"<h2>{escape(host['host'])} {_badge(STATES[host['state']], _LEVELS[host['state']])}"
        f'<span class="quiet version">{escape(host["version"] or "")}</span></h2>'
    )
    parts = [f'<p class="reason">{escape(host["reason"])}</p>' if host["reason"] else "", _bars(host)]
    if host["listening"]:
        parts.insert(0, f'<p class="quiet">Listens on {escape(listens(host))}</p>')
    if host["models"]:
        parts.append(_models(host["models"], now))
    elif host["state"] == "running":
        parts.append('<p class="quiet">No models.</p>')
    parts += [_list("Next run", host["pending"]), _list("Remarks", remarks({**host, "pending": []}))]
    parts.append(_scheduled(host["scheduled_verification"], now))
    if host["benchmark"]:
        parts.append(_benchmark(host["benchmark"], plots, now))
    return f'<section class="card host" id="host-{escape(host["host"])}">{head}{"".join(parts)}</section>'


def _bars(host: Facts) -> str:
    bars = []
    store = host["store"] or {}
    if store.get("bytes_total") and store["bytes_free"] is not None:
        used = store["bytes_total"] - store["bytes_free"]
        text = f"{human(store['bytes_free'])} free of {human(store['bytes_total'])}"
        bars.append(share_bar(f"Disk of {store['path']}", used, store["bytes_total"], text))
    total = sum(gpu["vram"] or 0 for gpu in host["gpus"])
    if total and host["state"] == "running":
        used = sum(model["vram_bytes"] for model in host["models"])
        names = counted([gpu["name"] for gpu in host["gpus"]])
        bars.append(share_bar(f"GPU memory, {names}", used, total, f"models use {human(used)} of {human(total)}"))
    return f'<div class="bars">{"".join(bars)}</div>' if bars else ""


def _models(models: t.Sequence[Facts], now: float) -> str:
    rows = []
    for model in models:
        notes = [f"alias of {model['alias_of']}"] if model["alias_of"] else []
        notes += [] if model["declared"] else ["not declared"]
        if model["loaded"]:
            share = model["vram_bytes"] / model["memory_bytes"] if model["memory_bytes"] else 0.0
            notes.append(f"loaded, {share:.0%} on GPU")
        note = f'<span class="note">{escape(", ".join(notes))}</span>' if notes else ""
        problems = "".join(f'<div class="problem">{escape(text)}</div>' for text in model["problems"])
        digest = (model["digest"] or "").replace("sha256:", "")
        rows.append(
            (
                f"<div><b>{escape(model['name'])}</b>{note}</div>",
                f"<div>{_badge(verified(model, now), _BADGES[model['state']])}{problems}</div>",
                f'<code title="{escape(digest)}">{escape(digest[:12])}</code>' if model["digest"] else "-",
                escape(human(model["size"]) if model["size"] else "-"),
                escape(model["source"] or "-"),
            )
        )
    titles = ("Model", "Verification", "Digest", "Size", "Source")
    return _table(titles if any(model["source"] for model in models) else titles[:-1], rows, "models")


def _list(title: str, texts: t.Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in _first(texts))
    return f"<h3>{escape(title)}</h3><ul>{items}</ul>" if texts else ""


def _scheduled(found: Facts | None, now: float) -> str:
    if not found:
        return ""
    model = {"state": "verified", "verified_at": found["finished_at"]}
    text = verified(model, now).replace("verified", "finished")
    return f'<p class="quiet">Scheduled verification: {escape(text)}, {len(found["damaged"])} damaged models.</p>'


def _benchmark(benchmark: Facts, plots: t.Sequence[str], now: float) -> str:
    when = f", {age(now - benchmark['measured_at'])} ago" if benchmark.get("measured_at") else ""
    suggestions = [
        f"{model['name']}: {model['suggestion']}" for model in benchmark["models"] if model.get("suggestion")
    ]
    return f'<h3>Benchmark{escape(when)}</h3><div class="plots">{"".join(plots)}</div>' + _list(
        "Suggestions", suggestions
    )
