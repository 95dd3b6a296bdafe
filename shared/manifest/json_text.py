"""JSON read value by value from a text stream.

The standard library decodes; what it lacks is reading a long list without holding it. Objects come as tuples of
(name, value), so that a name said twice is seen. Of numbers only their being numbers matters.
"""

import json
import re
from collections.abc import Iterator
from typing import TextIO

from shared.manifest.text import CTRL_Z

LONGEST_VALUE = 131_072
_PIECE = 65_536
_NOT_WHITE = re.compile(r"[^ \t\r\n]")
_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float)


def decode(line: str) -> object:
    """The one value that is on a line. Raises ValueError where there is none, or more, or one that is too long."""
    if len(line) > LONGEST_VALUE:
        raise ValueError("too long")
    try:
        return _DECODER.decode(line)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


class JsonText:
    """A text at the place where it is read next. Every method raises ValueError where something else stands there."""

    def __init__(self, text: TextIO, held: str) -> None:
        self._text = text
        self._held = held
        self._at = 0

    def peek(self) -> str:
        """The next character that is no white space; none at the end."""
        while not (found := _NOT_WHITE.search(self._held, self._at)):
            self._at = len(self._held)
            if not self._read_on():
                return ""
        self._at = found.start()
        return found[0]

    def take(self, character: str) -> None:
        if self.peek() != character:
            raise ValueError(f"no {character}")
        self._at += 1

    def items(self, opening: str, closing: str) -> Iterator[None]:
        """Stands before each item between two brackets, which the caller takes, and at last behind them."""
        self.take(opening)
        if self.peek() != closing:
            yield
            while self.peek() != closing:
                self.take(",")
                yield
        self.take(closing)

    def name(self) -> str:
        """The name of a member, and past the colon behind it."""
        name = self.value()
        if not isinstance(name, str):
            raise ValueError("no name")
        self.take(":")
        return name

    def value(self) -> object:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._held, self._at)
            except RecursionError as error:
                raise ValueError("nested too deep") from error
            except ValueError:
                if len(self._held) - self._at > LONGEST_VALUE or not self._read_on():
                    raise
            else:
                # A number at the end of what is held may go on.
                if end < len(self._held) or not self._read_on():
                    self._at = end
                    return value

    def end(self) -> None:
        if self.peek() == CTRL_Z:
            self.take(CTRL_Z)
        if self.peek():
            raise ValueError("more")

    def _read_on(self) -> bool:
        piece = self._text.read(_PIECE)
        if piece:
            self._held = self._held[self._at :] + piece
            self._at = 0
        return bool(piece)
