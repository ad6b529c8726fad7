"""How texts travel over a pipe: the length in bytes (big-endian, 4 bytes), then UTF-8."""

from __future__ import annotations

import os
import struct


def frame(text: str) -> bytes:
    """A text as it travels."""
    data = text.encode()
    return struct.pack(">I", len(data)) + data


def size(data: bytes) -> int:
    """The bytes of the frame that begins here, its length included; 4 while the length itself is not there yet."""
    return 4 + (struct.unpack(">I", data[:4])[0] if len(data) >= 4 else 0)


def split(data: bytes) -> tuple[list[str], bytes]:
    """The texts that are whole, and what is left."""
    texts = []
    while len(data) >= 4 and len(data) >= size(data):
        texts.append(data[4 : size(data)].decode(errors="replace"))
        data = data[size(data) :]
    return texts, data


def read(descriptor: int) -> str | None:
    """The next text, waiting for it; None at the end."""
    header = _read_exactly(descriptor, 4)
    if header is None:
        return None
    body = _read_exactly(descriptor, size(header) - 4)
    return None if body is None else body.decode()


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        part = os.read(descriptor, count - len(data))
        if not part:
            return None
        data += part
    return data


def write(descriptor: int, text: str) -> None:
    """Raises BrokenPipeError when nobody reads it."""
    data = frame(text)
    while data:
        data = data[os.write(descriptor, data) :]
