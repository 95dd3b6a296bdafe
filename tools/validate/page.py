"""What a person reads of one manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

from shared.manifest import FINDINGS_KEPT, Answer, Finding

# Stands for the batch that customer and partner agreed on, which nobody knows here.
DEFAULT_BATCH = "(the customer’s default)"
_DEVICES_PER_REQUEST = 500
_FINDINGS_SHOWN = 40
_LONGEST_CELL = 28
_NARROWEST_MESSAGE = 32
_MARGIN = "  "

type Colour = Literal["red", "yellow", "green", "bold", "faint"]
_CODES: dict[Colour, int] = {"red": 31, "yellow": 33, "green": 32, "bold": 1, "faint": 2}
_VERDICTS: dict[str, tuple[str, Colour]] = {
    "accepted": ("accepted", "green"),
    "accepted-with-errors": ("accepted without its bad rows", "yellow"),
    "rejected": ("rejected", "red"),
}


@dataclass(frozen=True, slots=True)
class Terminal:
    """How wide a line may be, and whether it may have colours."""

    width: int
    has_colours: bool

    def paint(self, text: str, colour: Colour) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.has_colours else text

    def wrapped(self, text: str, indent: int = len(_MARGIN)) -> list[str]:
        left = " " * indent
        return wrap(text, self.width, initial_indent=left, subsequent_indent=left, break_on_hyphens=False)


def page(name: str, answer: Answer, bad_rows: int, terminal: Terminal) -> Iterator[str]:
    """The page, line by line."""
    verdict, colour = _VERDICTS[answer.verdict]
    counts = f"{_count(answer.rows, 'row')}, {_count(answer.devices, 'device')}, {_count(bad_rows, 'bad row')}"
    yield f"{terminal.paint(name, 'bold')}: {terminal.paint(verdict, colour)}; {counts}"
    if answer.refusal:
        where = f" in row {answer.refusal.row}" if answer.refusal.row else ""
        yield from terminal.wrapped(f"{answer.refusal.code}{where}: {answer.refusal.message}")
    yield from _findings(answer, terminal)
    yield from _batches(answer, terminal)


def _findings(answer: Answer, terminal: Terminal) -> Iterator[str]:
    findings = [f for f in answer.findings if f != answer.refusal]
    if not findings:
        return
    yield ""
    yield from _table(findings[:_FINDINGS_SHOWN], terminal)
    if len(findings) > _FINDINGS_SHOWN:
        told = _FINDINGS_SHOWN + len(answer.findings) - len(findings)
        more = sum(answer.finding_counts.values()) - told
        yield f"{_MARGIN}… and {more:,} more; --format json has the first {FINDINGS_KEPT:,}"
    yield ""
    counts = sorted(answer.finding_counts.items(), key=lambda c: -c[1])
    yield from terminal.wrapped("In all: " + ", ".join(f"{count:,} × {code}" for code, count in counts))


def _table(findings: list[Finding], terminal: Terminal) -> Iterator[str]:
    cells = [("row", "column", "code"), *((str(f.row or ""), _cut(f.column), str(f.code)) for f in findings)]
    widths = [max(map(len, texts)) for texts in zip(*cells, strict=True)]
    lefts = [_MARGIN + "  ".join((f"{r:>{widths[0]}}", f"{c:<{widths[1]}}", code)) for r, c, code in cells]
    indent = len(_MARGIN) + sum(widths) + 6
    is_narrow = terminal.width - indent < _NARROWEST_MESSAGE
    yield terminal.paint(lefts[0] if is_narrow else f"{lefts[0]:<{indent}}message", "faint")
    for finding, left in zip(findings, lefts[1:], strict=True):
        if is_narrow:
            yield _coloured(left, finding, terminal)
            yield from terminal.wrapped(finding.message, widths[0] + 4)
        else:
            first, *others = terminal.wrapped(finding.message, indent)
            yield _coloured(f"{left:<{indent}}", finding, terminal) + first.lstrip()
            yield from others


def _coloured(left: str, finding: Finding, terminal: Terminal) -> str:
    before, code, after = left.rpartition(str(finding.code))
    return before + terminal.paint(code, "red" if finding.is_error else "yellow") + after


def _batches(answer: Answer, terminal: Terminal) -> Iterator[str]:
    if not answer.batches:
        return
    width = max(len("batch"), *(len(_cut(b)) for b in answer.batches))
    yield ""
    yield terminal.paint(f"  {'batch':<{width}}  devices  requests", "faint")
    for batch, devices in answer.batches.items():
        requests = -(-devices // _DEVICES_PER_REQUEST)
        yield f"  {_cut(batch):<{width}}  {devices:>7,}  {requests:>8,}"
    if DEFAULT_BATCH in answer.batches:
        yield from terminal.wrapped("It is the batch that the partner set up; --batch TAG names another.")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cut(text: str) -> str:
    return f"{text[: _LONGEST_CELL - 1]}…" if len(text) > _LONGEST_CELL else text
