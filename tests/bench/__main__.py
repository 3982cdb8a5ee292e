# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: run the benchmarks that are named, or all, and print one table.

python -m tests.bench [verify] [models] [pull] [resume] [converge] [hosts] [fleet] [balance]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import typing as t

from . import balance, converge, fleet, modules

BENCHES: dict[str, t.Callable[[], t.Iterator[tuple[str, str]]]] = {
    "verify": modules.verify,
    "models": modules.models,
    "pull": modules.pull,
    "resume": modules.resume,
    "converge": converge.converge,
    "hosts": converge.hosts,
    "fleet": fleet.fleet,
    "balance": balance.balance,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], metavar="NAME")
    names = parser.parse_args().names or list(BENCHES)
    print(f"{os.cpu_count()} processors, Python {platform.python_version()}, {platform.system()} {platform.release()}")
    for name in names:
        print(f"\n{name}", flush=True)
        for what, value in BENCHES[name]():
            print(f"  {what:<66} {value}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
