# SPDX-License-Identifier: GPL-3.0-or-later
"""GGUF files: reads headers as Ollama does (lazily, so a cut file still opens) and writes tiny valid ones."""

from __future__ import annotations

import dataclasses
import os
import random
import struct
import typing as t

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 8: ("Q8_0", 32, 34), 14: ("Q6_K", 256, 210),
          12: ("Q4_K", 256, 144), 24: ("I8", 1, 1)}  # fmt: skip
_ALIGNMENT = 32


class BadGGUF(Exception):
    """The text is that of the real server."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int

    @property
    def type_name(self) -> str:
        return _TYPES[self.type_id][0] if self.type_id in _TYPES else "unknown"

    @property
    def elements(self) -> int:
        count = 1
        for side in self.shape:
            count *= side
        return count

    @property
    def size(self) -> int:
        _name, block, nbytes = _TYPES.get(self.type_id, ("", 1, 0))
        return self.elements // block * nbytes


@dataclasses.dataclass
class Header:
    values: dict[str, t.Any]
    tensors: list[Tensor]
    data_start: int

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", "unknown"))

    def arch(self, key: str) -> t.Any:
        return self.values.get(f"{self.architecture}.{key}")

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)


class _Reader:
    def __init__(self, stream: t.BinaryIO) -> None:
        self._stream = stream
        self.pos = 0

    def take(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise BadGGUF("unexpected EOF" if data else "EOF")
        self.pos += count
        return data

    def number(self, code: str) -> t.Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        length = self.number("Q")
        if length > 1 << 24:
            raise BadGGUF("EOF")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> t.Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _index in range(count)]
        if kind not in _SCALARS:
            raise BadGGUF(f"invalid type: {kind}")
        value = self.number(_SCALARS[kind])
        return _shortest_float32(value) if kind == 6 else value


def _shortest_float32(value: float) -> float:
    """Return the shortest decimal of the same float32, as Go prints it."""
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return int(short) if short == int(short) and abs(short) < 1e15 else short
    return value


def opens(path: str) -> bool:
    """Check the magic number and the counts, as the capability check does."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(24)
    except OSError:
        return False
    return len(head) == 24 and head[:4] == b"GGUF"


def read_header(path: str) -> Header:
    with open(path, "rb") as stream:
        reader = _Reader(stream)
        if reader.take(4) != b"GGUF":
            raise BadGGUF("invalid file magic")
        reader.number("I")
        tensor_count, value_count = reader.number("Q"), reader.number("Q")
        values = {}
        for _index in range(value_count):
            key = reader.string()
            values[key] = reader.value(reader.number("I"))
        tensors = []
        for _index in range(tensor_count):
            name = reader.string()
            shape = tuple(reader.number("Q") for _index in range(reader.number("I")))
            tensors.append(Tensor(name, shape, reader.number("I"), reader.number("Q")))
    data_start = -(-reader.pos // _ALIGNMENT) * _ALIGNMENT
    size = os.path.getsize(path)
    for tensor in tensors:
        end = data_start + tensor.offset + tensor.size
        if end > size:
            raise BadGGUF(f"tensor {tensor.name} offset+size {end} exceeds file size {size}")
    return Header(values, tensors, data_start)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def requantized(path: str) -> bytes | None:
    """Return what a server 0.30 to 0.33 writes for a file without general.quantization_version; None: unchanged."""
    header = read_header(path)
    if "general.quantization_version" in header.values:
        return None
    with open(path, "rb") as stream:
        reader = _Reader(stream)
        head = reader.take(16) + struct.pack("<Q", len(header.values) + 1)
        reader.take(8)
        for _key in header.values:
            reader.string()
            reader.value(reader.number("I"))
        stream.seek(24)
        head += stream.read(reader.pos - 24)
        head += _string("general.quantization_version") + struct.pack("<II", 4, 2)
        start = reader.pos
        for _tensor in header.tensors:
            reader.string()
            reader.take(8 * reader.number("I") + 12)
        stream.seek(start)
        head += stream.read(reader.pos - start)
        stream.seek(header.data_start)
        return head + b"\0" * (-len(head) % _ALIGNMENT) + stream.read()


def tiny(size: int, seed: int, architecture: str = "llama", quantized: bool = True) -> bytes:
    """A valid file of exactly `size` bytes whose only tensor holds pseudo-random weights.

    Without `quantized` it lacks the key general.quantization_version.
    """
    numbers = {
        "context_length": 256, "embedding_length": 64, "block_count": 1, "feed_forward_length": 128,
        "attention.head_count": 4, "attention.head_count_kv": 4, "rope.dimension_count": 16,
    }  # fmt: skip
    if architecture == "bert":
        numbers["pooling_type"] = 1
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, len(numbers) + 2 + quantized)
    head += _string("general.architecture") + struct.pack("<I", _STRING) + _string(architecture)
    head += _string("general.file_type") + struct.pack("<II", 4, 0)
    if quantized:
        head += _string("general.quantization_version") + struct.pack("<II", 4, 2)
    for key, number in numbers.items():
        head += _string(f"{architecture}.{key}") + struct.pack("<II", 4, number)
    name = "token_embd.weight"
    data_start = -(-(len(head) + 8 + len(name) + 4 + 8 + 4 + 8) // _ALIGNMENT) * _ALIGNMENT
    if size <= data_start:
        raise ValueError(f"a GGUF file needs more than {data_start} bytes, not {size}")
    head += _string(name) + struct.pack("<IQIQ", 1, size - data_start, 24, 0)
    head += b"\0" * (data_start - len(head))
    return head + random.Random(seed).randbytes(size - data_start)
