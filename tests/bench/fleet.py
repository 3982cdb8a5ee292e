# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a fleet takes for one model: measured constants, then a simulation of 10 to 10,000 hosts.

python -m tests.bench fleet            # measures and simulates
python -m tests.bench.fleet FILE.svg   # draws the plot of docs/scaling.md, from the constants below
"""

from __future__ import annotations

import hashlib
import heapq
import http.client
import math
import os
import statistics
import sys
import tempfile
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

from tests.lab import PROJECT, images
from tests.lab.lab import LABEL, ROOT_LABEL, connect, listens

MB = 1_000_000
SIZE = 256 * MB
RUNS = 15
PLAIN = "http { include registry.conf; server { listen 81; access_log off; root /srv/registry; } }\n"


@dataclass(frozen=True)
class World:
    """What a fleet has: GB, Gbit/s, GB/s."""

    model: float = 40.0
    wan: float = 1.0
    lan: float = 10.0
    mirror: float = 1.19  # GB/s, measured on 2 cores; the network bounds a mirror, too
    host: float = 0.82  # GB/s that a host hashes, measured likewise

    @property
    def send(self) -> float:
        """GB/s that one sender has for all its receivers."""
        return min(self.lan / 8, self.mirror)

    @property
    def receive(self) -> float:
        """GB/s at which one host can take a model in."""
        return min(self.lan / 8, self.host)


def shared(world: World, receivers: int, rate: float) -> float:
    """Seconds until `receivers` have the model that share `rate` GB/s."""
    return world.model / min(rate / receivers, world.receive) if receivers else 0.0


def wan_each(world: World, hosts: int) -> float:
    return shared(world, hosts, world.wan / 8)


def mirrors(world: World, hosts: int, count: int = 1) -> float:
    """Mirrors first, over the line; then everybody else at once, spread over them: what the roles do."""
    others = hosts - count
    return shared(world, count, world.wan / 8) + shared(world, math.ceil(others / count), world.send)


def waves(world: World, hosts: int) -> float:
    """Each host that has the model serves one more: simulated, transfer by transfer."""
    first = world.model / min(world.wan / 8, world.receive)
    transfer = world.model / min(world.send, world.receive)
    free, last = [first], first
    for _run in range(hosts - 1):
        start = heapq.heappop(free)
        last = start + transfer
        heapq.heappush(free, last)
        heapq.heappush(free, last)
    return last


def peers_bound(world: World, hosts: int) -> float:
    """No protocol is faster: each byte crosses the line once, each host takes all in, all send."""
    return max(
        world.model / min(world.wan / 8, world.receive),
        hosts * world.model / (world.wan / 8 + hosts * min(world.send, world.receive)),
    )


CURVES: dict[str, tuple[str, t.Callable[[World, int], float]]] = {
    "each host from the Internet": ("#c0392b", wan_each),
    "one mirror": ("#2471a3", mirrors),
    "four mirrors": ("#148f77", lambda world, hosts: mirrors(world, hosts, 4)),
    "each host serves one more": ("#b7950b", waves),
    "bound of any peer-to-peer": ("#7d3c98", peers_bound),
}
HOSTS = [10, 30, 100, 300, 1000, 3000, 10_000]


def fetch(address: str, port: int, path: str) -> float:
    """Read a complete response and return GB/s."""
    connection = http.client.HTTPConnection(address, port, timeout=60)
    buffer = bytearray(1 << 20)
    total, started = 0, time.monotonic()
    connection.request("GET", path)
    answer = connection.getresponse()
    while count := answer.readinto(buffer):
        total += count
    seconds = time.monotonic() - started
    connection.close()
    if answer.status != 200 or total != SIZE:
        raise SystemExit(f"{path} on port {port}: status {answer.status}, {total} of {SIZE} bytes")
    return total / seconds / 1e9


def measure() -> tuple[list[float], list[float], float]:
    """GB/s of the mirror's configuration and of nginx with none, on the same file in turns; GB/s of hashing."""
    client = connect()
    image = images.ensure(client, "depot")
    with tempfile.TemporaryDirectory() as folder:
        data = os.urandom(MB) * (SIZE // MB)
        started = time.monotonic()
        digest = hashlib.sha256(data).hexdigest()
        hashing = SIZE / (time.monotonic() - started) / 1e9
        blob = Path(folder, "registry", "blobs", f"sha256-{digest}")
        blob.parent.mkdir(parents=True)
        blob.write_bytes(data)
        del data
        conf = Path(folder, "nginx.conf")
        conf.write_text(f"daemon off; user root; worker_processes auto; events {{ }} {PLAIN}")
        container = client.containers.run(
            image,
            detach=True,
            labels={LABEL: "bench", ROOT_LABEL: str(PROJECT)},
            volumes={
                f"{folder}/registry": {"bind": "/srv/registry", "mode": "ro"},
                str(conf): {"bind": "/etc/nginx/nginx.conf", "mode": "ro"},
            },
        )
        try:
            container.reload()
            address = str(container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])
            if not listens(address, 81, 20):
                raise SystemExit(f"nginx does not listen: {container.logs().decode()}")
            paths = {11480: f"/v2/bench/m/blobs/sha256:{digest}", 81: f"/blobs/{blob.name}"}
            speeds: dict[int, list[float]] = {port: [] for port in paths}
            for run in range(RUNS + 1):
                # In turns, and by turns first: whatever else the machine does hits both alike.
                for port, path in sorted(paths.items(), reverse=bool(run % 2)):
                    speed = fetch(address, port, path)
                    if run:  # the first one fills the page cache
                        speeds[port].append(speed)
        finally:
            container.remove(force=True, v=True)
    return speeds[11480], speeds[81], hashing


def fleet() -> t.Iterator[tuple[str, str]]:
    mirror, plain, hashing = measure()
    speed = statistics.median(mirror)
    ratio = statistics.median(one / other for one, other in zip(mirror, plain, strict=True))
    yield f"the mirror serving {SIZE // MB} MB, one client", f"{speed:.2f} GB/s"
    yield "  against nginx without its configuration, same file, in turns", f"{ratio:.2f}"
    yield "hashing on one core", f"{hashing:.2f} GB/s"
    world = World(mirror=speed, host=hashing)
    yield "simulated with these: minutes for 40 GB, line 1 Gbit/s, network 10 Gbit/s", ""
    for name, (_colour, curve) in CURVES.items():
        yield f"  {name}", "  ".join(f"{curve(world, hosts) / 60:6.0f}" for hosts in HOSTS)
    yield "  for so many hosts", "  ".join(f"{hosts:6}" for hosts in HOSTS)


def svg(world: World) -> str:
    """Draw all curves on logarithmic axes."""
    width, height, left, bottom = 860, 460, 70, 50
    low, high = 1.0, 100_000.0

    def x(hosts: float) -> float:
        return left + (width - left - 210) * math.log10(hosts / 10) / 3

    def y(minutes: float) -> float:
        return (height - bottom) - (height - bottom - 30) * math.log10(minutes / low) / math.log10(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18">Minutes until all hosts have a model of {world.model:g} GB '
        f"(line {world.wan:g} Gbit/s, network {world.lan:g} Gbit/s)</text>",
    ]
    for hosts in (10, 100, 1000, 10_000):
        parts.append(f'<line x1="{x(hosts):.0f}" x2="{x(hosts):.0f}" y1="30" y2="{height - bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x(hosts):.0f}" y="{height - bottom + 18}" text-anchor="middle">{hosts:,}</text>')
    parts.append(f'<text x="{x(316):.0f}" y="{height - 12}" text-anchor="middle">hosts</text>')
    for power in range(6):
        line = y(10**power)
        parts.append(f'<line x1="{left}" x2="{x(10_000):.0f}" y1="{line:.0f}" y2="{line:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{line + 4:.0f}" text-anchor="end">{10**power:,}</text>')
    taken: list[float] = []
    for name, (colour, curve) in CURVES.items():
        points = [(hosts, curve(world, hosts) / 60) for hosts in HOSTS]
        text = " ".join(f"{x(hosts):.1f},{y(minutes):.1f}" for hosts, minutes in points)
        parts.append(f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = y(points[-1][1]) + 4
        while any(abs(label - other) < 15 for other in taken):
            label += 15
        taken.append(label)
        parts.append(f'<text x="{x(10_000) + 8:.0f}" y="{label:.0f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(svg(World()))
