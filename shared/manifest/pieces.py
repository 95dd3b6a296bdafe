"""Bytes that come in pieces of any size, read without holding more than one."""

from collections.abc import Iterable, Iterator
from itertools import chain


def begin(pieces: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """At least the first `size` bytes, or all if there are fewer, and all the pieces, these again among them."""
    rest = iter(pieces)
    start = b""
    while len(start) < size and (piece := next(rest, None)) is not None:
        start += piece
    return start, chain([start], rest)
