"""What a person sees: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from local.stack import Event

COLUMNS = ("Manifest", "Read", "Location", "Message", "Report")
_COLOURS = {"accepted": "green", "submitted": "green", "rejected": "red", "duplicate": "yellow", "waiting": "yellow"}


class Lines:
    """One line an event, as it comes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def dropped(self, name: str, size: int) -> None:
        self._say(f"{name}: dropped, {size:,} bytes")

    def show(self, event: Event) -> None:
        self._say(f"{event.manifest}: {summary(event)}" if event.manifest else summary(event))

    def _say(self, text: str) -> None:
        elapsed = time.monotonic() - self._started
        self._console.print(f"[dim]{elapsed:6.1f} s[/]  {_coloured(text)}", highlight=False, soft_wrap=True)


class Board:
    """A row for each manifest, filled in as it comes along."""

    def __init__(self, console: Console) -> None:
        self._rows: dict[str, dict[str, str]] = {}
        self._live = Live(self._table(), console=console, refresh_per_second=12)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def dropped(self, name: str, size: int) -> None:
        self._put(name)

    def show(self, event: Event) -> None:
        data = event.data
        if event.kind == "report":
            read = f"{data['devices']}/{data['rows']} {data['verdict']}"
            self._put(event.manifest, Read=read, Report=data["state"])
        elif event.kind != "call":
            location = data["data"].get("location") or ""
            said = data["type"].removeprefix("io.autopilotdrop.")
            self._put(event.manifest, Message=said, Location=f"…{location[-9:]}" if location else "")

    def _put(self, name: str, **cells: str) -> None:
        self._rows.setdefault(name, dict.fromkeys(COLUMNS, "") | {"Manifest": name}).update(cells)
        self._live.update(self._table())

    def _table(self) -> Table:
        table = Table(expand=False)
        for column in COLUMNS:
            table.add_column(column, overflow="fold")
        for row in self._rows.values():
            table.add_row(*(_coloured(cell) for cell in row.values()))
        return table


def screen(console: Console) -> Lines | Board:
    """The view that suits where the output goes."""
    return Board(console) if console.is_terminal else Lines(console)


def summary(event: Event) -> str:
    """One line that says what happened."""
    data = event.data
    if event.kind == "report":
        return f"report {data['state']}: {data['verdict']}, {data['devices']} of {data['rows']} devices"
    if event.kind == "call":
        return f"Partner Center: {data['method']} {data['path']} ({data['bytes']:,} bytes) → {data['status']}"
    kind = data["type"].removeprefix("io.autopilotdrop.")
    detail = data["data"].get("location") or data["data"].get("reason") or data["data"].get("problem") or ""
    return f"message on {event.kind}: {kind} {detail}".rstrip()


def print_message(console: Console, event: Event) -> None:
    """A message as a consumer finds it on the queue."""
    console.print(f"\n[bold]{escape(event.kind)}[/]: {escape(event.data['type'])}, for {escape(event.manifest)}")
    console.print_json(json.dumps(event.data, ensure_ascii=False))


def print_report(console: Console, report: dict[str, Any]) -> None:
    """A report as a supplier would want it read out."""
    console.print(f"\n[bold]Report[/] of {escape(report['manifest']['name'])}: {_coloured(report['verdict'])}")
    if reason := report.get("reason"):
        console.print(f"  {escape(reason['code'])}: {escape(reason['message'])}", highlight=False)
    table = Table("Row", "Column", "Code", "Message")
    for finding in report["findings"]:
        row = "" if finding["row"] is None else str(finding["row"])
        table.add_row(row, *(escape(finding[k]) for k in ("column", "code", "message")))
    console.print(table)


def _coloured(text: str) -> str:
    text = escape(text)
    for word, colour in _COLOURS.items():
        if word in text.split(":")[-1]:
            return f"[{colour}]{text}[/]"
    return text


def only(events: Iterable[Event], kind: str) -> list[Event]:
    return [event for event in events if event.kind == kind]
