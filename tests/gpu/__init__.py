"""Checks that need a real GPU: `make test-gpu`. Everything else about GPUs is tested on copies of hosts' files."""
