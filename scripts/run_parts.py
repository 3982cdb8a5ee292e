# SPDX-License-Identifier: GPL-3.0-or-later
"""Run make targets, continue after failures, and print a table of durations and results.

`--jobs N` runs N at a time, in their order; the output of each target is printed when the target has ended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def table(results: list[tuple[str, float, int]], took: float) -> str:
    """Return the table: duration and result of each part, then the total."""
    width = max(len(name) for name, _seconds, _code in results)
    failed = sum(code != 0 for _name, _seconds, code in results)
    rows = [
        f"{name:<{width}}  {seconds:7.1f} s  {'pass' if code == 0 else f'FAIL (exit {code})'}"
        for name, seconds, code in results
    ]
    verdict = f"{failed} of {len(results)} failed" if failed else f"all {len(results)} passed"
    return "\n".join([*rows, f"{'total':<{width}}  {took:7.1f} s  {verdict}"])


def run(part: str, alone: bool) -> tuple[str, float, int]:
    """Run one part; return its name, seconds and exit status."""
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
    if not alone:
        end = f"=== {part}: {'passed' if done.returncode == 0 else 'FAILED'} after {seconds:.0f} s\n"
        sys.stdout.write(f"\n=== {part}\n{done.stdout.decode(errors='replace')}{end}")
        sys.stdout.flush()
    return part, seconds, done.returncode


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
    return int(any(code for _name, _seconds, code in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
