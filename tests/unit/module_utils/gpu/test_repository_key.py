# Copyright (c) 2026, kaido.ollama contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinned keys: what this collection accepts contains, for GnuPG too, the pinned key and no other."""

from __future__ import annotations

import base64
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.kaido.ollama.plugins.filter import openpgp_fingerprints, openpgp_key
from ansible_collections.kaido.ollama.plugins.module_utils._gpu.repository_key import canonical, fingerprints

from tests.conftest import ROOT
from tests.lab import engine
from tests.unit.module_utils.gpu.test_driver_state import FINGERPRINT, KEY

engine.ensure_tools({"gpg": "gnupg"})

BEGIN, END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
LINES = KEY.strip().splitlines()
BINARY = base64.b64decode("".join(LINES[2:-2]))
# Another key, as an attacker would add it.
OTHER = (ROOT / "tests" / "lab" / "ubuntu.asc").read_text()


def gnupg(path: Path, data: bytes) -> list[str]:
    """Return the fingerprints of the primary keys that GnuPG finds in a file."""
    (path / "home").mkdir(mode=0o700, exist_ok=True)
    (path / "key").write_bytes(data)
    command: list[str | Path] = [
        "gpg",
        "--homedir",
        path / "home",
        "--batch",
        "--with-colons",
        "--show-keys",
        path / "key",
    ]
    rows = subprocess.run(command, capture_output=True, check=False).stdout.decode("utf-8", "replace").splitlines()
    primary = [index for index, row in enumerate(rows) if row.startswith("pub:")]
    return [next(row for row in rows[index:] if row.startswith("fpr:")).split(":")[9] for index in primary]


def test_a_clean_key_is_read_in_both_forms(tmp_path: Path) -> None:
    assert fingerprints(KEY.encode()) == fingerprints(BINARY) == [FINGERPRINT]
    assert canonical(KEY.encode()) == canonical(BINARY) == KEY
    assert gnupg(tmp_path, canonical(BINARY).encode()) == [FINGERPRINT]
    assert len(gnupg(tmp_path, (KEY + OTHER).encode())) == 2, "GnuPG reads concatenated blocks"


def test_a_vendors_file_with_headers_becomes_the_canonical_one() -> None:
    text = KEY.replace(BEGIN + "\n", BEGIN + "\nVersion: GnuPG v1\nComment: hello\n").replace("\n", "\r\n")
    assert fingerprints(text.encode()) == [FINGERPRINT]
    assert canonical(text.encode()) == KEY
    assert canonical("\n".join([*LINES[:-2], LINES[-1]]).encode()) == KEY, "the checksum is optional"


def test_the_filters_agree() -> None:
    [read] = openpgp_fingerprints.FilterModule().filters().values()
    [write] = openpgp_key.FilterModule().filters().values()
    assert (read(KEY), write(KEY)) == ([FINGERPRINT], KEY)
    for text in ("", "<html>not here</html>", "\udcff", "ü", KEY + OTHER):
        assert (read(text), write(text)) == ([], "")


def joined(*parts: str) -> str:
    return "".join(parts)


SMUGGLED: dict[str, str | bytes] = {
    "the same block twice": joined(KEY, KEY),
    "another block after it": joined(KEY, OTHER),
    "another block before it": joined(OTHER, KEY),
    "a block with a space after its header": joined(KEY, OTHER.replace(BEGIN, BEGIN + " ")),
    "a block with a tab after its header": joined(KEY, OTHER.replace(BEGIN, BEGIN + "\t")),
    "a block with a space before its header": joined(KEY, OTHER.replace(BEGIN, " " + BEGIN)),
    "a block of another type": joined(KEY, OTHER.replace("PUBLIC KEY BLOCK", "MESSAGE")),
    "a block with a footer of another type": joined(KEY, OTHER.replace(END, "-----END PGP MESSAGE-----")),
    "a block without a footer": joined(KEY, OTHER.replace(END, "")),
    "a block in the same line": joined(KEY.rstrip("\n"), OTHER),
    "a block after a carriage return": joined(KEY, "\r", OTHER),
    "a block after a null byte": joined(KEY, "\0", OTHER),
    "a block in a header": KEY.replace(BEGIN + "\n", joined(BEGIN, "\nComment: x\r", OTHER)),
    "a block in the middle": KEY.replace(LINES[4], joined(OTHER, LINES[4])),
    "text before it": joined("Comment: x\n", KEY),
    "text after it": joined(KEY, "x\n"),
    "a space after its header": KEY.replace(BEGIN, BEGIN + " "),
    "a space in its empty line": KEY.replace(BEGIN + "\n\n", BEGIN + "\n \n"),
    "no empty line": KEY.replace(BEGIN + "\n\n", BEGIN + "\n"),
    "a wrong checksum": KEY.replace(LINES[-2], "=AAAA"),
    "two checksums": KEY.replace(LINES[-2], LINES[-2] + "\n" + LINES[-2]),
    "a byte order mark": joined("\ufeff", KEY),
    "a clear-signed head": joined("-----BEGIN PGP SIGNED MESSAGE-----\n\n", KEY),
    "two keys in one block": BINARY + BINARY,
    "a binary key and a block": BINARY + OTHER.encode(),
    "a block and a binary key": KEY.encode() + BINARY,
    "a marker packet first": b"\xca\x03PGP" + BINARY,
    "a compressed packet": BINARY + b"\xa0\x03\x01\x03\x00",
    "a trust packet": BINARY + b"\xb0\x02\x00\x00",
    "a literal packet": BINARY + b"\xcb\x08b\x00\x00\x00\x00\x00xx",
    "a secret key": b"\x95" + BINARY[1:],
    "a subkey first": b"\xb8" + BINARY[1:],
    "a key of version 3": BINARY[:2] + b"\3" + BINARY[3:],
    "a key of version 6": BINARY[:2] + b"\6" + BINARY[3:],
    "half a key": BINARY[:-10],
    "something behind it": BINARY + b"\0",
    "a length that is not known": b"\x9b" + BINARY[2:],
    "a body in parts": b"\xc6\xe1" + BINARY[2:],
    "only a signature": b"\x88\x01\x04",
    "nothing": "",
    "a web page": "<html>not here</html>",
    "a page of armor": joined(BEGIN, "\n\n", "A" * 64, "\n", END, "\n"),
}


@pytest.mark.parametrize("what", SMUGGLED, ids=lambda name: name.replace(" ", "_"))
def test_a_file_that_others_may_read_differently_is_refused(what: str) -> None:
    text = SMUGGLED[what]
    data = text if isinstance(text, bytes) else text.encode()
    assert fingerprints(data) == []
    assert canonical(data) == ""


def _flip(data: bytearray, dice: random.Random) -> None:
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _cut(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    del data[start : start + dice.randrange(1, 80)]


def _repeat(data: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(data))
    data[start:start] = data[start : start + dice.randrange(1, 200)]


def _insert(data: bytearray, dice: random.Random) -> None:
    start = dice.choice([0, len(data), dice.randrange(len(data))])
    other = base64.b64decode("".join(OTHER.split("\n\n")[-1].split("\n=")[0].split()))
    data[start:start] = dice.choice(
        [OTHER.encode(), other, BINARY, KEY.encode(), b" ", b"\n", b"\r", b"\t", b"\0", b"\n\n", BEGIN.encode(), b"="]
    )


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [_flip, _cut, _repeat, _insert]


def test_what_is_accepted_of_mutated_files_is_the_pinned_key_for_gnupg_too(tmp_path: Path) -> None:
    """2000 files; GnuPG reads each file that passes the pin."""
    dice = random.Random(20261126)
    accepted = set()
    for number in range(2000):
        data = bytearray(KEY.encode() if number % 2 else BINARY)
        for _time in range(dice.choice([1, 1, 2, 5])):
            dice.choice(MUTATIONS)(data, dice)
        if fingerprints(bytes(data)) == [FINGERPRINT]:
            accepted.add(canonical(bytes(data)))
    assert len(accepted) > 20, "some mutations leave the primary key as it is"
    for text in accepted:
        assert set(gnupg(tmp_path, text.encode())) <= {FINGERPRINT}
