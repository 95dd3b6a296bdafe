"""The lines of a text, a block at a time: counted as a text editor counts them, and none longer than it may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from shared.manifest.findings import Code, Refused
from shared.manifest.text import CTRL_Z

LONGEST_LINE = 131_072  # also the csv module's own bound for one field
MOST_LINES = 2_000_000  # twice a spreadsheet's
_BLOCK = 65_536  # characters
_MARK = "\ufeff"  # begins a file; within one, where files were joined


def refuse_more_lines(number: int) -> None:
    """Raise Refused beyond `MOST_LINES`: blank ones cost time, too."""
    if number > MOST_LINES:
        message = f"The file has more than {MOST_LINES:,} lines. Remove the blank ones, or send it in parts."
        raise Refused(Code.MANIFEST_TOO_LARGE, message)


class Lines:
    """LF, CRLF and CR all end a line, in any mixture. `number` is that of the last line that was taken."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._block: list[str] = []
        self._at = 0
        self._rest = ""  # of a line that goes on in the next block
        self._ended = False
        self.number = 0

    def block(self) -> list[str]:
        """The lines that come next, without their ends and not yet taken; none at the end."""
        if self._at:
            self._block, self._at = self._block[self._at :], 0
        while not self._block and not self._ended:
            self._fill()
        return self._block

    def skip(self, count: int) -> None:
        """Take so many lines of the block."""
        self._at += count
        self.number += count
        refuse_more_lines(self.number)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._at == len(self._block) and not self.block():
            raise StopIteration
        line = self._block[self._at]
        self.skip(1)
        return line

    def _fill(self) -> None:
        piece = self._text.read(_BLOCK)
        self._ended = not piece
        whole = self._rest + piece
        lines = whole.split("\n")
        rest = lines.pop()
        # A CR at the very end may be half of a CRLF.
        whole_of_rest = len(rest) if self._ended else rest.rfind("\r", 0, -1) + 1
        if whole_of_rest:
            lines.append(rest[:whole_of_rest])
        self._rest = rest[whole_of_rest:]
        if "\r" in whole:
            lines = [line.removesuffix("\r") for line in lines]
            if any("\r" in line for line in lines):
                lines = [part for line in lines for part in line.split("\r")]
        if CTRL_Z in whole or _MARK in whole:
            lines = [line.strip(CTRL_Z + _MARK) for line in lines]
        self._refuse_endless([*lines, self._rest])
        self._block = lines

    def _refuse_endless(self, lines: list[str]) -> None:
        if len(max(lines, key=len)) > LONGEST_LINE:
            number = self.number + next(n for n, line in enumerate(lines, 1) if len(line) > LONGEST_LINE)
            raise Refused(Code.NOT_A_MANIFEST, f"The line is longer than {LONGEST_LINE:,} characters.", number)
