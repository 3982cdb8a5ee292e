# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks: how fast and small the collection is. They print medians and ratios of one run, and assert nothing."""

import sys
from pathlib import Path

# Where make links the checkout under the collection's name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / ".cache"))
