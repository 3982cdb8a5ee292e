# SPDX-License-Identifier: GPL-3.0-or-later
"""Use the endpoint that role ollama_client described, as services do: with ollama, openai and curl.

Reads nothing but the files of docs/endpoint.md. Prints a line for each thing tried; exits with 0 when all of them
worked, 1 when one did not, 2 when the description is of no use. Needs the packages of requirements/clients.txt.
"""

from __future__ import annotations

import argparse
import json
import ssl
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import ollama
import openai

ENDPOINT = Path("/etc/kaido-ollama/endpoint.json")
PROFILE = Path("/etc/profile.d/kaido-ollama.sh")
PROMPT = "Say something."
# Services in sh read the other file. The token goes by a pipe, so that no list of processes shows it.
CURL = r"""
set -eu
. "$1"
eval "url=\$$2OPENAI_BASE_URL model=\$$2MODEL token_file=\$$2TOKEN_FILE ca_file=\$$2CA_FILE"
body=$(printf '{"model": "%s", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}' "$model")
{ [ -z "$token_file" ] || printf 'Authorization: Bearer %s' "$(cat "$token_file")"; } |
curl --header @- ${ca_file:+--cacert "$ca_file"} --silent --show-error --fail --no-buffer --max-time 60 \
  --header 'Content-Type: application/json' --data "$body" "$url/chat/completions"
"""

Endpoint = dict[str, t.Any]


def read(path: Path) -> Endpoint:
    """Return the description; an unknown version is an error."""
    endpoint: Endpoint = json.loads(path.read_text())
    if endpoint["version"] != 1:
        raise ValueError(f"{path}: version {endpoint['version']!r} is not known here")
    return endpoint


def token(endpoint: Endpoint) -> str | None:
    return Path(endpoint["token_file"]).read_text().strip() if endpoint["token_file"] else None


def trust(endpoint: Endpoint) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=endpoint["ca_file"])


def silence(endpoint: Endpoint) -> str:
    """Return the reason why there is no response; empty if there is one, also a refusal."""
    request = urllib.request.Request(f"{endpoint['openai_base_url']}/models")
    if endpoint["token_file"]:
        request.add_header("Authorization", f"Bearer {token(endpoint)}")
    try:
        urllib.request.urlopen(request, timeout=10, context=trust(endpoint)).read()
    except urllib.error.HTTPError as error:
        return f"status {error.code}" if error.code in (502, 503, 504) else ""
    except urllib.error.URLError as error:
        # An untrusted certificate is an error, not a missing response.
        return "" if isinstance(error.reason, ssl.SSLError) else str(error.reason)
    except OSError as error:
        return str(error)
    return ""


def text_of(pieces: t.Iterable[str | None]) -> str:
    """Consume a stream; returns what came and when."""
    start = time.monotonic()
    got = [(time.monotonic() - start, piece) for piece in pieces if piece]
    if len(got) < 2:
        raise ValueError(f"not a stream: {len(got)} pieces")
    text = "".join(piece for _when, piece in got)
    return f"{len(got)} pieces in {got[0][0]:.2f} to {got[-1][0]:.2f} s: {text[:60]!r}"


def vector_of(vector: t.Sequence[float]) -> str:
    if not vector or not any(vector):
        raise ValueError("no vector")
    return f"{len(vector)} numbers"


def expected_text(text: str | None) -> str:
    if not text:
        raise ValueError("no text")
    return repr(text[:60])


def names_of(names: t.Iterable[str | None], wanted: str) -> str:
    found = sorted(str(name) for name in names)
    if wanted not in found:
        raise ValueError(f"{wanted} is not among {found}")
    return ", ".join(found)


def by_ollama(endpoint: Endpoint) -> t.Iterator[tuple[str, t.Callable[[], str]]]:
    headers = {"Authorization": f"Bearer {token(endpoint)}"} if endpoint["token_file"] else {}
    client = ollama.Client(host=endpoint["base_url"], headers=headers, verify=trust(endpoint), timeout=60)
    model, messages = endpoint["model"], [{"role": "user", "content": PROMPT}]
    yield "list", lambda: names_of((row.model for row in client.list().models), model)
    yield "generate", lambda: expected_text(client.generate(model=model, prompt=PROMPT).response)
    yield "chat", lambda: text_of(part.message.content for part in client.chat(model, messages, stream=True))
    if endpoint["embedding_model"]:
        yield "embed", lambda: vector_of(client.embed(endpoint["embedding_model"], PROMPT).embeddings[0])


def by_openai(endpoint: Endpoint) -> t.Iterator[tuple[str, t.Callable[[], str]]]:
    client = openai.OpenAI(
        base_url=endpoint["openai_base_url"],
        # The package requires a key; a server without keys ignores it.
        api_key=token(endpoint) or "none",
        http_client=openai.DefaultHttpxClient(verify=trust(endpoint)),
        timeout=60,
        max_retries=0,
    )

    def chat() -> str:
        stream = client.chat.completions.create(
            model=endpoint["model"], messages=[{"role": "user", "content": PROMPT}], stream=True
        )
        return text_of(part.choices[0].delta.content for part in stream if part.choices)

    def embed() -> str:
        found = client.embeddings.create(model=endpoint["embedding_model"], input=PROMPT, encoding_format="float")
        return vector_of(found.data[0].embedding)

    yield "models", lambda: names_of((row.id for row in client.models.list()), endpoint["model"])
    yield "chat", chat
    if endpoint["embedding_model"]:
        yield "embeddings", embed


def by_curl(environment: Path, prefix: str) -> str:
    command = ["sh", "-c", CURL, "sh", str(environment), prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip() or f"exit status {done.returncode}")
    lines = [json.loads(line.removeprefix("data: ")) for line in done.stdout.splitlines() if line.startswith("data: {")]
    return expected_text("".join(line["choices"][0]["delta"].get("content") or "" for line in lines if line["choices"]))


def tried(client: str, what: str, how: t.Callable[[], str]) -> bool:
    try:
        print(f"ok      {client:6} {what:10} {how()}")
    except Exception as error:  # each package has exceptions of its own
        reported = " / ".join(str(part) for part in (error, error.__cause__) if part is not None)
        print(f"FAILED  {client:6} {what:10} {type(error).__name__}: {reported}".replace("\n", " "))
        return False
    return True


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--endpoint", type=Path, default=ENDPOINT, help="the description; its .env lies beside it")
    arguments.add_argument("--forwarder", action="store_true", help="ask where OLLAMA_HOST points, without any token")
    wanted = arguments.parse_args()
    try:
        endpoint, prefix = read(wanted.endpoint), "KAIDO_OLLAMA_"
        if wanted.forwarder:
            shell = ["sh", "-euc", f'. {PROFILE}; echo "$OLLAMA_HOST"']
            host = subprocess.run(shell, env={}, capture_output=True, text=True, check=True).stdout.strip()
            endpoint |= {"base_url": f"http://{host}", "openai_base_url": f"http://{host}/v1"}
            endpoint |= {"token_file": None, "ca_file": None}
        elif endpoint["fallback"] and (why := silence(endpoint)):
            print(f"{endpoint['provider']} does not answer: {why}")
            endpoint, prefix = endpoint["fallback"], "KAIDO_OLLAMA_FALLBACK_"
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        print(f"prove: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print(f"asking {endpoint['provider']} at {endpoint['base_url']}")
    results = []
    if endpoint["api"] == "ollama":
        results += [tried("ollama", what, how) for what, how in by_ollama(endpoint)]
    results += [tried("openai", what, how) for what, how in by_openai(endpoint)]
    if not wanted.forwarder:
        results.append(tried("curl", "chat", lambda: by_curl(wanted.endpoint.with_suffix(".env"), prefix)))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
