"""Finds records: by id, path, customer, serial number or product key. Newest first, and no more is read than shown."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime

from shared.intake import is_ignored
from shared.ledger import Entry, Record
from shared.plan import Upload
from tools.intake.parts import Parts
from tools.intake.words import View, printable, standing

logger = logging.getLogger(__name__)

_AT_ONCE = 16
_ID = re.compile(r"[0-9a-f]{4,64}")


class NotFound(Exception):
    """There is no such record; the text says what was looked for."""


class Ambiguous(Exception):
    """More than one record is meant; the text names them."""


@dataclass(frozen=True, slots=True)
class Row:
    """A device's row in a manifest, as the supplier's report has it."""

    number: str
    serial: str
    product_key: str
    verdict: str
    message: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        device = " ".join(v for v in (self.serial, self.product_key) if v)
        return printable(f"row {self.number}, {device}: {self.verdict} {self.message}".rstrip())


def view(parts: Parts, entry: Entry) -> View:
    """All that is known of a record; outcomes are read only where there can be any."""
    return _view(parts, entry, parts.ledger.look(entry.key))


def _view(parts: Parts, entry: Entry, record: Record) -> View:
    has_outcomes = bool(record.plan.parts) and record.plan.verdict != "dry-run"
    outcomes = parts.ledger.outcomes(entry.key) if has_outcomes else {}
    return View(entry, record, outcomes, parts.clock())


def with_problem(parts: Parts, seen: View) -> View:
    """The same, with what operators were told."""
    state = seen.state
    problem = parts.alerts.find(state.problem) if state.problem and not state.done else None
    return View(seen.entry, seen.record, seen.outcomes, seen.now, problem)


def listed(parts: Parts, customer: str, states: Iterable[str], since: datetime | None) -> Iterator[View]:
    """Records of this customer (a folder or an id), in these states, planned since then."""
    wanted, now = set(states), parts.clock()
    entries = [
        e
        for e in parts.ledger.entries()
        if (not wanted or standing(e.state, now) in wanted) and (since is None or e.written >= since)
    ]

    def look(entry: Entry) -> View | None:
        record = _read(parts, entry)
        return _view(parts, entry, record) if record and (not customer or _is_of(record, customer)) else None

    for seen in _ahead(look, _newest_first(entries)):
        if seen:
            yield seen


def found(parts: Parts, text: str) -> Iterator[tuple[View, list[Row]]]:
    """Records whose id begins so, whose path or customer holds the text, or that have such a device, and its rows."""
    prefix = as_id(text)

    def look(entry: Entry) -> tuple[View, list[Row]] | None:
        record = _read(parts, entry)
        if record is None:
            return None
        rows = list(_rows(record, text))
        is_meant = bool(prefix) and entry.key.startswith(prefix)
        if rows or is_meant or text.casefold() in record.plan.upload.name.casefold() or _is_of(record, text):
            return _view(parts, entry, record), rows
        return None

    for seen in _ahead(look, _newest_first(parts.ledger.entries())):
        if seen:
            yield seen


def without_record(parts: Parts, text: str) -> Iterator[Upload]:
    """Blobs with the text in their path that nothing has been planned of."""
    known = {entry.key for entry in parts.ledger.entries()}
    for upload in parts.manifests.list():
        if text.casefold() in upload.name.casefold() and upload.key not in known and not is_ignored(upload.name):
            yield upload


def one(parts: Parts, text: str) -> Entry:
    """The record meant by a `manifest.id`, the beginning of one, or a path: there, the latest upload of it.

    Raises NotFound, Ambiguous.
    """
    prefix = as_id(text)
    by_id = list(parts.ledger.entries(prefix)) if prefix else []
    if len(by_id) > 1:
        raise Ambiguous(f"{text} could be {', '.join(e.key[:12] for e in by_id[:5])}. Give more of it.")
    if by_id:
        return by_id[0]

    def look(entry: Entry) -> Entry | None:
        record = _read(parts, entry)
        if record is None:
            return None
        upload = record.plan.upload
        return entry if text in (upload.name, upload.url, f"{upload.container}/{upload.name}") else None

    entry = next((e for e in _ahead(look, _newest_first(parts.ledger.entries())) if e), None)
    if entry is None:
        raise NotFound(f"No record has an id or a path like “{printable(text)}”. Try: find")
    return entry


def as_id(text: str) -> str:
    """The `manifest.id`, or the beginning of one, in whichever case it was written down; empty for anything else."""
    return prefix if _ID.fullmatch(prefix := text.strip().casefold()) else ""


def _read(parts: Parts, entry: Entry) -> Record | None:
    """A record that cannot be read must not hide the others."""
    try:
        return parts.ledger.look(entry.key)
    except (RuntimeError, ValueError) as error:
        logger.warning("record.unreadable id=%s %s", entry.key[:12], type(error).__name__)
        return None


def _is_of(record: Record, customer: str) -> bool:
    """A customer is known by id, and by the first folder."""
    plan = record.plan
    return customer.casefold() in {(plan.customer_id or "").casefold(), plan.upload.name.split("/")[0].casefold()}


def _rows(record: Record, device: str) -> Iterator[Row]:
    """The rows of a device, by its serial number or product key."""
    section = record.plan.report_csv
    if section is None:
        return
    wanted = device.casefold()
    with io.TextIOWrapper(record.open(section), "utf-8-sig", newline="") as text:
        for line in csv.DictReader(text):
            serial, product_key = (line[name].removeprefix("'") for name in ("serial", "product_key"))
            if wanted in (serial.casefold(), product_key.casefold()):
                yield Row(line["row"], serial, product_key, line["verdict"], line["message"])


def _newest_first(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda e: (e.written, e.key), reverse=True)


def _ahead[T, R](look: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `look` sees of each, in order, some at once; it stops soon after its reader does."""
    pending = deque[Future[R]]()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for item in items:
                pending.append(pool.submit(look, item))
                if len(pending) > 2 * _AT_ONCE:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
