# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for text from several clients at once, streamed and not, for some seconds; print what became of it, as JSON.

lost: no byte of an answer came. cut: an answer began and did not end. Everything else is complete, or counted as wrong.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import statistics
import threading
import time
import typing as t
import urllib.parse
from pathlib import Path


class Load:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.url = urllib.parse.urlsplit(arguments.url)
        self.ends = time.monotonic() + arguments.seconds
        self.token = Path(arguments.token_file).read_text().strip() if arguments.token_file else ""
        self.tls = ssl.create_default_context(cafile=arguments.ca) if self.url.scheme == "https" else None
        self.rows: list[dict[str, t.Any]] = []

    def connect(self) -> http.client.HTTPConnection:
        host, port = self.url.hostname or "", self.url.port
        if self.tls:
            return http.client.HTTPSConnection(host, port, timeout=60, context=self.tls)
        return http.client.HTTPConnection(host, port, timeout=60)

    def ask(self, prompt: str, stream: bool) -> dict[str, t.Any]:
        """One request on a connection of its own, as most clients make them."""
        body: dict[str, t.Any] = {"model": self.arguments.model, "prompt": prompt, "stream": stream}
        body["options"] = {"num_predict": 24}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        started, first, lines = time.monotonic(), 0.0, []
        row: dict[str, t.Any] = {"at": time.time(), "stream": stream, "became": "lost", "why": ""}
        connection = self.connect()
        try:
            connection.request("POST", "/api/generate", json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"status {answer.status}: {answer.read(200).decode(errors='replace')}")
            row["server"] = answer.headers.get("X-Ollama-Server", "")
            for line in answer:
                first = first or time.monotonic() - started
                row["became"] = "cut"
                lines.append(json.loads(line))
            if not lines or not lines[-1].get("done"):
                raise OSError("the answer has no end")
            text = "".join(line["response"] for line in lines)
            row["became"] = "complete" if text.strip() and lines[-1]["model"] == body["model"] else "wrong"
        except (OSError, http.client.HTTPException, ValueError) as error:
            row["why"] = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        return {**row, "first": first, "total": time.monotonic() - started}

    def client(self, number: int) -> None:
        turn = number
        while time.monotonic() < self.ends and not (self.arguments.until and self.arguments.until.exists()):
            row = self.ask(f"client {number} turn {turn}", stream=turn % 2 == 0)
            self.rows.append(row)
            if self.arguments.beat:
                with self.arguments.beat.open("a") as file:
                    file.write(f"{row['became']}\n")
            turn += 1
            # A gateway that refuses at once must not get thousands of requests.
            time.sleep(self.arguments.pause if row["became"] == "complete" else 0.2)

    def run(self) -> dict[str, t.Any]:
        started = time.monotonic()
        clients = [threading.Thread(target=self.client, args=(number,)) for number in range(self.arguments.clients)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        complete = [row for row in self.rows if row["became"] == "complete"]
        bad = [row for row in self.rows if row["became"] != "complete"]
        return {
            "requests": len(self.rows),
            "seconds": round(time.monotonic() - started, 2),
            **{
                became: sum(row["became"] == became for row in self.rows)
                for became in ("complete", "lost", "cut", "wrong")
            },
            "median": round(statistics.median([row["total"] for row in complete] or [0]), 4),
            "slowest": round(max([row["total"] for row in self.rows] or [0]), 4),
            "first": round(statistics.median([row["first"] for row in complete if row["stream"]] or [0]), 4),
            "why": [row["why"] for row in bad][:10],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--ca")
    parser.add_argument("--token-file")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--until", type=Path, help="a file that ends it, too")
    parser.add_argument("--beat", type=Path, help="a file that gets a line for each answer")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--pause", type=float, default=0)
    print(json.dumps(Load(parser.parse_args()).run()))


if __name__ == "__main__":
    main()
