# SPDX-License-Identifier: GPL-3.0-or-later
"""A client: requests the version 20 times per second and records each response. `poll.py since TIME` sums them up."""

from __future__ import annotations

import itertools
import json
import sys
import time
import urllib.request

LOG = "/run/poll.log"


def ask() -> str:
    try:
        with urllib.request.urlopen("http://127.0.0.1:11434/api/version", timeout=2) as answer:
            return str(json.load(answer)["version"])
    except (OSError, ValueError):
        return "-"


def poll() -> None:
    with open(LOG, "a", encoding="utf-8", buffering=1) as log:
        while True:
            log.write(f"{time.time():.3f} {ask()}\n")
            time.sleep(0.05)


def summary(since: float) -> dict[str, object]:
    """Seconds without an answer, and the versions that answered, in the order of their appearance."""
    with open(LOG, encoding="utf-8") as log:
        rows = [(float(when), said) for when, said in (line.split() for line in log)]
    rows = [row for row in rows if row[0] >= since]
    lost = sum(after[0] - row[0] for row, after in itertools.pairwise(rows) if row[1] == "-")
    return {"lost": round(lost, 2), "versions": list(dict.fromkeys(said for _when, said in rows if said != "-"))}


if len(sys.argv) == 3:
    print(json.dumps(summary(float(sys.argv[2]))))
else:
    poll()
