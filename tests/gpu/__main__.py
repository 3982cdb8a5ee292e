# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the checks on a host with a GPU: python -m tests.gpu"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def main() -> int:
    """Return pytest's status; 0 without a GPU."""
    # Importable only after conftest.
    from ansible_collections.kaido.ollama.plugins.module_utils._gpu import facts

    found = facts.gather().gpus
    if not found:
        print("skipped: no GPU")
        return 0
    print("GPUs: " + ", ".join(f"{gpu.vendor} {gpu.pci_id or ''}" for gpu in found))
    return pytest.main(
        ["-v", "-p", "tests.unit.conftest", "--rootdir", str(ROOT), str(Path(__file__).with_name("checks.py"))]
    )


if __name__ == "__main__":
    sys.exit(main())
