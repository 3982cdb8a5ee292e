# SPDX-License-Identifier: GPL-3.0-or-later
"""Run make targets, continue after failures, and print a table of durations and results.

`--jobs N` runs N at a time, in their order; the output of each target is printed when the target has ended, and the end
of what failed once more after the table: a server of continuous integration may show only the last lines.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

LAST_LINES = 20
"""How many lines of a failed part are printed again."""


class Result(NamedTuple):
    """One part that ran: seconds, exit status, and its output as text if it was kept."""

    name: str
    seconds: float
    code: int
    output: str = ""


def table(results: list[Result], took: float) -> str:
    """Return the table: duration and result of each part, then the total with the names of what failed."""
    width = max(len(result.name) for result in results)
    failed = [result.name for result in results if result.code]
    rows = [
        f"{name:<{width}}  {seconds:7.1f} s  {'pass' if code == 0 else f'FAIL (exit {code})'}"
        for name, seconds, code, _output in results
    ]
    verdict = f"{len(failed)} of {len(results)} failed: {' '.join(failed)}" if failed else f"all {len(results)} passed"
    return "\n".join([*rows, f"{'total':<{width}}  {took:7.1f} s  {verdict}"])


def run(part: str, alone: bool) -> Result:
    """Run one part; its output is kept unless it runs `alone` and prints as it goes."""
    started = time.monotonic()
    print(f"\n=== {part}{'' if alone else ': begins'}", flush=True)
    done = subprocess.run(
        [os.environ.get("MAKE", "make"), "--no-print-directory", part],
        stdin=subprocess.DEVNULL,
        stdout=None if alone else subprocess.PIPE,
        stderr=None if alone else subprocess.STDOUT,
        check=False,
    )
    seconds = time.monotonic() - started
    output = "" if alone else done.stdout.decode(errors="replace")
    if not alone:
        end = f"=== {part}: {'passed' if done.returncode == 0 else 'FAILED'} after {seconds:.0f} s\n"
        sys.stdout.write(f"\n=== {part}\n{output}{end}")
        sys.stdout.flush()
    return Result(part, seconds, done.returncode, output)


def main(arguments: list[str]) -> int:
    """Run the parts; return 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument("parts", nargs="+", metavar="TARGET")
    wanted = parser.parse_args(arguments)
    started = time.monotonic()
    with ThreadPoolExecutor(wanted.jobs) as pool:
        results = list(pool.map(lambda part: run(part, wanted.jobs == 1), wanted.parts))
    print(f"\n{table(results, time.monotonic() - started)}", flush=True)
    for result in results:
        if result.code and result.output:
            print(f"\n=== {result.name}: its last lines")
            print("\n".join(result.output.splitlines()[-LAST_LINES:]), flush=True)
    return int(any(result.code for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
