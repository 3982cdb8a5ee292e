"""Run make targets one after the other, go on after a failure, and end with one table of seconds and results."""

from __future__ import annotations

import os
import subprocess
import sys
import time


def table(results: list[tuple[str, float, int]]) -> str:
    """Show each part's seconds and result, then the sum."""
    width = max(len(name) for name, _seconds, _code in results)
    failed = sum(code != 0 for _name, _seconds, code in results)
    rows = [
        f"{name:<{width}}  {seconds:7.1f} s  {'pass' if code == 0 else f'FAIL (exit {code})'}"
        for name, seconds, code in results
    ]
    total = sum(seconds for _name, seconds, _code in results)
    verdict = f"{failed} of {len(results)} failed" if failed else f"all {len(results)} passed"
    return "\n".join([*rows, f"{'total':<{width}}  {total:7.1f} s  {verdict}"])


def main(parts: list[str]) -> int:
    """Run the parts; 0 only if every one of them passed."""
    if not parts:
        print("usage: run_parts.py TARGET...", file=sys.stderr)
        return 2
    results = []
    for part in parts:
        print(f"\n=== {part}", flush=True)
        started = time.monotonic()
        code = subprocess.run(
            [os.environ.get("MAKE", "make"), "--no-print-directory", part], stdin=subprocess.DEVNULL, check=False
        ).returncode
        results.append((part, time.monotonic() - started, code))
    print(f"\n{table(results)}", flush=True)
    return int(any(code for _name, _seconds, code in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
