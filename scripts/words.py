# SPDX-License-Identifier: GPL-3.0-or-later
"""Check texts for words and phrases that are not standard English of the field.

`python -m scripts.words [FILE…]` prints each finding as path:line with the standard term; the exit status is then 1.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Pattern -> standard term.
WORDS = {
    r"\bdoors?\b": "gateway, reverse proxy",
    r"\banew\b": "again, reload",
    r"\bbare (?:hosts?|Linux)\b": "fresh host, Linux host",
    r"[Tt]wice is nothing": "idempotent",
    r"[Nn]ever worse off|[Nn]othing lost": "what is guaranteed",
    r"\b(?:is|are|was|were|be|been|found) (?:sound|whole)\b": "intact, complete",
    r"\b[Ww]hom\b": "which host, which process",
    r"\b(?:she|her|hers)\b": "it, its",
    r"\bkeeps? (?:them|it|hosts) honest\b": "continuously verifies",
    r"'s (?:own )?word\b": "as reported by",
    r"\bits kin\b": "derivatives",
    r"\bput by\b": "backed up",
    r"\b(?:server|module|registry|host|it|site|file|log) (?:says?|said)\b": "returns, reports, contains",
    r"\b[Aa]way with\b": "remove",
    r"\bis not allowed; allowed (?:is|are)\b": "invalid value X; expected Y",
    r"\ballowed (?:is|are)\b": "expected",
    r"\b[Ww]ays out:": "Options:",
    r"\bfor people\b|(?<!\bfor word )\bin words\b": "human-readable",
    r"\bforecasts?\b": "predict, predicted changes",
    r"\bhas no plan for\b": "unsupported system",
    r"\bdoes not belong into\b": "unexpected file",
    r"\bflip(?:s|ped|ping)?\b": "switch",
    r"\b[Ww]ish(?:es|ed)?\b": "request, requested configuration",
    r"\b(?:go|goes|going) back\b": "rollback, roll back",
    r"\bwelcome\b": "allowed",
    r"\bhonest(?:ly)?\b": "verify",
    r"\blook(?:s|ed)? (?:whether|again)\b": "check, check again",
    r"\b[Tt]here twice\b": "duplicate",
    r"\bhas another content\b": "checksum mismatch",
    r"\b[Aa]sk(?:s|ed)? nobody\b": "has no authentication, sends no request",
    r"\b[Ss]peaks? (?:plain |only )?(?:HTTPS?|TLS)\b": "use HTTP",
    r"\b(?:is|are|was|were|be) told\b": "is reported",
    r"\b[Rr]equests a second\b": "requests per second",
    r"\bmore is not free\b": "not enough free GPU memory",
    r"\bnot right after all was done\b": "did not reach the desired state",
    r"\b(?:say|says|said) so\b": "report",
    r"\bon (?:its|their) way\b": "in progress",
    r"\bin small letters\b": "in lower case",
    r"\bin capitals\b": "in upper case",
    r"\band friends\b": "and others",
    r"\b(?:has|have|had) their turn\b": "are processed",
    r"\b(?:a|the) way back\b": "rollback, downgrade",
    r"\bgo(?:es)? on [a-z]+ing\b": "continue to",
    r"\bspreads? requests\b": "distribute requests",
    r"\bcame out\b": "resulting, was released",
    r"\bgives? up (?:its|the) (?:place|rights)\b": "leaves the queue, drops privileges",
    r"\bwhatever the\b": "regardless of the",
    r"\b(?:[Hh]old|holds) \S+ to its\b": "verify",
}
# First words that names of plays, tasks, blocks and handlers may not have.
NAMES = (
    r"(?:Have|Say|Tell|Ask|Look|See|Let|Leave|Know|Forget|Take|Keep|Make|Bring|Give|Go|Prove|Refuse|Speak|Away|Remember"
    r"|What|Who|Whose|Which|Where|How|That|It|Nothing)\b"
)
# Words that names of tests may not have, beside those above.
TEST_WORDS = {
    r"told|tells?|says?|said": "reported, reports",
    r"ask(?:s|ed)?": "requests, queries, on request",
    r"look(?:s|ed|ing)?(?! ups?\b)": "survey, examine, check",
    r"nobody|somebod\w+|who|whom|whoever|ours|ones own": "the account, foreign, provided",
    r"nowhere|elsewhere": "no other address, another module",
    r"bare|sound|whole|good|bad": "fresh, intact, complete, valid, invalid",
    r"wish|forecast|foretells?|mended|put by|flipped": "request, predicted, repaired, backed up, changed",
    r"mistakes?|believed?|remembered|forgotten|welcome": "errors, trusted, recorded, removed, allowed",
}
TEST_NAME = re.compile(r"^\s*(?:async )?def test_(\w+)")
TASK_NAME = re.compile(rf"^\s*-?\s*name:\s+[\"']?(?:[\w .-]+ \| )?({NAMES}.*)")
SKIP = re.compile(
    r"(?:^|/)(?:fixtures|LICENSE|CODE_OF_CONDUCT\.md)|^scripts/words\.py$|^tests/unit/scripts/test_words\.py$|^docs/decisions/0017"
)
SUFFIXES = {".py", ".md", ".yml", ".yaml", ".j2", ".sh", ".toml", ".cfg", ".lua"}


def findings(path: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, word and standard term of each finding in a file."""
    patterns = [(re.compile(pattern), term) for pattern, term in WORDS.items()]
    names = [(re.compile(rf"\b(?:{pattern})\b"), term) for pattern, term in TEST_WORDS.items()]
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, term in patterns:
            for match in pattern.finditer(line):
                yield number, match.group(0), term
        test = TEST_NAME.match(line)
        if test:
            for pattern, term in [*patterns, *names]:
                for match in pattern.finditer(test.group(1).replace("_", " ")):
                    yield number, match.group(0), term
        name = TASK_NAME.match(line) if path.endswith((".yml", ".yaml")) or path.startswith("plugins/") else None
        if name:
            yield number, name.group(1), "begin with a verb such as Install, Create, Configure, Check, Verify, Remove"


def files() -> list[str]:
    """Return the tracked text files that are checked, relative to the root."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [
        name
        for name in listed.splitlines()
        if (Path(name).suffix in SUFFIXES or Path(name).name == "Makefile")
        and not SKIP.search(name)
        and (ROOT / name).is_file()
    ]


def main(arguments: list[str]) -> int:
    """Check the named files, or all; returns 1 if there is a finding."""
    found = 0
    for name in arguments or files():
        for number, word, term in findings(name, (ROOT / name).read_text(encoding="utf-8", errors="replace")):
            print(f"{name}:{number}: {word!r}: {term}")
            found += 1
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
