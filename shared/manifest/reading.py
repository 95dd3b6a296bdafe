"""From a manifest's bytes to its devices and findings, in one pass, holding neither the bytes nor the rows.

    chunks ─► read_rows ─► check ─► Manifest (rows on disk, what is found wrong of them in memory)

Some faults of a row show only later: a twin further down that disagrees, a batch id that a JSON document names after
its devices. So a row's verdict is asked of the Manifest when all of it was read.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import compress
from types import TracebackType
from typing import Self

from shared.manifest.checks import HashCheck, examine, is_proved
from shared.manifest.destination import LONGEST_BATCH_ID, Destination
from shared.manifest.device import Device, PlainRows, Row
from shared.manifest.findings import Code, Finding, Refused, quote
from shared.manifest.formats import read_rows
from shared.manifest.json_format import Heading
from shared.manifest.row_store import RowStore
from shared.manifest.twins import Twins

FINDINGS_KEPT = 1_000
_MOST_TAGS = 10_000  # held in memory; how many batches they are shows only at the end
_GOOD, _BAD, _LEFT_OUT = range(3)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a manifest is held to (app settings of the same names)."""

    max_bytes: int = 536_870_912
    max_devices: int = 100_000
    max_batches: int = 50
    bad_rows_allowed: int = 20  # percent
    hash_check: HashCheck = "verify"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one row. Where it names no batch that can be used, `batch_id` is what it says, if anything.

    `beyond`: what it holds that no field of a device and no batch does, and is wrong with it.
    """

    row: int
    device: Device
    batch_id: str
    findings: tuple[Finding, ...]
    goes: bool
    beyond: tuple[str, ...] = ()

    @property
    def is_bad(self) -> bool:
        return any(f.is_error for f in self.findings)


def read_manifest(chunks: Iterable[bytes], destination: Destination, rules: Rules) -> Manifest:
    """Read a whole manifest. It never raises for what is in the bytes: a refusal is in the Manifest."""
    manifest = Manifest(destination, rules)
    source = _Source(chunks, rules.max_bytes)
    try:
        with closing(read_rows(source, rules.max_bytes)) as items:
            for item in items:
                manifest.add(item)
        manifest.finish()
    except Refused as refused:
        manifest.refuse(refused.finding)
    try:
        source.drain()
    except Refused as refused:
        manifest.refuse(refused.finding)
    manifest.sha256 = source.sha256.hexdigest()
    return manifest


class _Source:
    """The bytes of a manifest, counted and digested as they pass."""

    def __init__(self, chunks: Iterable[bytes], max_bytes: int) -> None:
        self._chunks = iter(chunks)
        self._left = max_bytes
        self._max_bytes = max_bytes
        self.sha256 = sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._left -= len(chunk)
            if self._left < 0:
                raise Refused(
                    Code.MANIFEST_TOO_LARGE,
                    f"The file is larger than {self._max_bytes:,} bytes. Send it in parts.",
                )
            self.sha256.update(chunk)
            yield chunk

    def drain(self) -> None:
        for _ in self:
            pass


class Manifest:
    """What a manifest holds. Close it: its rows lie in a temporary file."""

    def __init__(self, destination: Destination, rules: Rules) -> None:
        self.destination = destination
        self.rules = rules
        self.sha256 = ""
        self.devices = 0
        self.of_file: list[Finding] = []  # what no row's verdict holds
        self._first_errors: list[Finding] = []
        self._first_warnings: list[Finding] = []
        self.finding_counts: Counter[str] = Counter()
        self.errors = 0
        self.refusal: Finding | None = None
        self.batches: dict[str, int] = {}
        self._heading = Heading()
        self._rows = RowStore()
        self._twins = Twins()
        self._tags: dict[str, int] = {}
        self._tag_of = array("L")
        self._fates = bytearray()  # per row: _GOOD, _BAD, or _LEFT_OUT as a twin
        self._batch_of_tag: list[str | Finding] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()

    @property
    def rows(self) -> int:
        return len(self._fates)

    @property
    def findings(self) -> list[Finding]:
        """The first 1,000, in the manifest's order; warnings only as far as they leave room for errors."""
        warnings = self._first_warnings[: FINDINGS_KEPT - len(self._first_errors)]
        return sorted([*self._first_errors, *warnings], key=lambda f: f.row or 0)

    @property
    def is_accepted(self) -> bool:
        return self.refusal is None

    # While reading

    def add(self, item: Row | PlainRows | Finding | Heading) -> None:
        if isinstance(item, Row):
            self._add_row(item)
        elif isinstance(item, PlainRows):
            self._add_plain(item)
        elif isinstance(item, Heading):
            self._heading = item
        else:
            self._note_of_file(item)

    def refuse(self, finding: Finding) -> None:
        """The manifest's end, for this reason; the first one stands."""
        if self.refusal is None:
            self.refusal = finding
            self._note_of_file(finding)

    def _note_of_file(self, finding: Finding) -> None:
        self._note(finding)
        if len(self.of_file) < FINDINGS_KEPT:
            self.of_file.append(finding)

    def _add_row(self, row: Row) -> None:
        if self.rows == self.rules.max_devices:
            raise Refused(
                Code.TOO_MANY_DEVICES,
                f"The file has more than {self.rules.max_devices:,} devices. Send it in parts.",
                row.number,
            )
        device, findings = examine(row, self.rules.hash_check)
        if row.customer_id and not self.destination.is_customer(row.customer_id):
            findings.append(_mismatch(row.customer_id, row.number))
            row = row._replace(beyond=(*row.beyond, row.customer_id))
        for finding in findings:
            self._note(finding)
        is_bad = any(f.is_error for f in findings)
        tag = row.group_tag[: LONGEST_BATCH_ID + 1]  # longer ones are invalid, and would be kept in memory
        self._twins.add(row.number, device)
        self._tag_of.append(self._number_of(tag))
        self._fates.append(_BAD if is_bad else _GOOD)
        self._rows.append(row.number, row.device if is_bad else device, findings, row.beyond)

    def _add_plain(self, plain: PlainRows) -> None:
        """The same for many rows, of which there is nothing to say; each step goes over all of them at once."""
        tags = plain.group_tags
        if not self._is_plain(plain):
            for row in plain.rows():
                self._add_row(row)
            return
        numbers = {tag: self._number_of(tag) for tag in dict.fromkeys(tags)}
        self._twins.add_plain(plain)
        self._tag_of.extend(map(numbers.__getitem__, tags))
        self._fates.extend(bytes(len(plain)))
        self._rows.append_plain(plain.first, plain.columns)

    def _is_plain(self, plain: PlainRows) -> bool:
        """Whether nothing needs saying by the destination, the limits and the hashes either."""
        return (
            self.rows + len(plain) <= self.rules.max_devices
            and len(max(plain.group_tags, key=len)) <= LONGEST_BATCH_ID
            and all(map(self.destination.is_customer, set(plain.customer_ids)))
            and (not plain.hold_hashes or (self.rules.hash_check != "off" and all(map(is_proved, plain.devices()))))
        )

    def _number_of(self, tag: str) -> int:
        if len(self._tags) > _MOST_TAGS:
            raise Refused(Code.TOO_MANY_BATCHES, f"The rows have more than {_MOST_TAGS:,} different group tags.")
        return self._tags.setdefault(tag, len(self._tags))

    def _note(self, finding: Finding) -> None:
        self.finding_counts[str(finding.code)] += 1
        self.errors += finding.is_error
        kept = self._first_errors if finding.is_error else self._first_warnings
        if len(kept) < FINDINGS_KEPT:
            kept.append(finding)

    # When all was read

    def finish(self) -> None:
        """The verdict on the whole. Raises Refused where nothing may go."""
        if self.rows == 0:
            raise Refused(Code.EMPTY_MANIFEST, "The file holds no device: no row has a value in a column we know.")
        if not self.destination.is_customer(self._heading.customer_id):
            raise Refused(Code.CUSTOMER_MISMATCH, _mismatch(self._heading.customer_id).message, column="CustomerId")
        self._settle_twins()
        self._settle_batches()
        bad = self._fates.count(_BAD)
        if bad * 100 > self.rows * self.rules.bad_rows_allowed or not self.devices:
            self._refuse_for_bad_rows(bad)

    def _settle_twins(self) -> None:
        tags = list(self._tags)
        rows = zip(self._rows, self._tag_of, strict=True)
        self._twins.settle(((device, tags[tag]) for (_, device, *_), tag in rows), self._fates)
        if not self._twins.found:
            return
        for index, (_, device, *_) in enumerate(self._rows):
            if index in self._twins.found:
                finding = self._twins.finding(index, device)
                self._note(finding)
                self._fates[index] = _BAD if finding.is_error else self._fates[index] or _LEFT_OUT

    def _settle_batches(self) -> None:
        spelling: dict[str, str] = {}
        for tag in self._tags:
            batch = self.destination.batch(self._heading.batch_id, tag)
            if isinstance(batch, str):
                batch = spelling.setdefault(batch.casefold(), batch)
            self._batch_of_tag.append(batch)
        if len(spelling) > self.rules.max_batches:
            raise Refused(
                Code.TOO_MANY_BATCHES,
                f"The rows name {len(spelling)} batches; at most {self.rules.max_batches} are taken from one file.",
            )
        self._hold_back_rows_without_batch()
        good = Counter(compress(self._tag_of, (fate == _GOOD for fate in self._fates)))
        for tag_number, count in good.items():
            batch = str(self._batch_of_tag[tag_number])
            self.batches[batch] = self.batches.get(batch, 0) + count
        self.devices = good.total()

    def _hold_back_rows_without_batch(self) -> None:
        without = {n: batch for n, batch in enumerate(self._batch_of_tag) if isinstance(batch, Finding)}
        if not without:
            return
        for index, tag_number in enumerate(self._tag_of):
            if finding := without.get(tag_number):
                self._fates[index] = _BAD
                self._note(replace(finding, row=self._twins.row_number(index)))

    def _refuse_for_bad_rows(self, bad: int) -> None:
        codes = self._codes_of_all_bad_rows()
        of_bad_rows = (f for i, v in enumerate(self.verdicts()) if self._fates[i] == _BAD for f in v.findings)
        first = next((f for f in of_bad_rows if f.code in codes), None) if codes else None
        code = first.code if first else Code.TOO_MANY_BAD_ROWS
        why = f"All of them: {first.message}" if first else "The findings say why, row by row."
        self.refusal = Finding(
            code,
            f"{bad:,} of {self.rows:,} rows cannot be used (up to {self.rules.bad_rows_allowed} % may be left out), "
            f"so nothing of this file was sent. {why}",
        )
        if first is None:
            self._note_of_file(self.refusal)

    def _codes_of_all_bad_rows(self) -> set[Code]:
        codes: set[Code] | None = None
        for index, verdict in enumerate(self.verdicts()):
            if self._fates[index] == _BAD:
                mine = {f.code for f in verdict.findings if f.is_error}
                codes = mine if codes is None else codes & mine
                if not codes:
                    break
        return codes or set()

    def verdicts(self) -> Iterator[Verdict]:
        """Every row in the manifest's order, with all that was found of it."""
        tags = list(self._tags)
        for index, (number, device, findings, beyond) in enumerate(self._rows):
            if index in self._twins.found:
                findings.append(self._twins.finding(index, device))
            tag_number = self._tag_of[index]
            batch = self._batch_of_tag[tag_number] if self._batch_of_tag else tags[tag_number]
            if isinstance(batch, Finding):
                findings.append(replace(batch, row=number))
                batch = tags[tag_number]
            goes = self.is_accepted and self._fates[index] == _GOOD
            yield Verdict(number, device, batch, tuple(findings), goes, beyond)

    def devices_of(self, batch_id: str) -> Iterator[tuple[int, Device]]:
        """Row number and device of each row that goes into `batch_id`, in the manifest's order."""
        mine = {i for i, batch in enumerate(self._batch_of_tag) if batch == batch_id}
        going = (fate == _GOOD and tag in mine for fate, tag in zip(self._fates, self._tag_of, strict=True))
        for number, device, _ in compress(self._rows.packed(), going):
            yield number, Device._make(device)


def _mismatch(claimed: str, row: int | None = None) -> Finding:
    message = f"{quote(claimed)} is not the customer whose folder the file was dropped into."
    return Finding(Code.CUSTOMER_MISMATCH, message, row)
