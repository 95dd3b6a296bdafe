"""From a manifest's bytes to its devices and findings, in one pass, holding neither the bytes nor the rows.

    chunks ─► read_rows ─► check ─► Manifest (rows on disk, what is found wrong of them in memory)

Some faults of a row show only later: a twin further down that disagrees, a batch id that a JSON document names after
its devices. So a row's verdict is asked of the Manifest when all of it was read.
"""

from __future__ import annotations

import marshal
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from hashlib import blake2b, sha256
from operator import itemgetter
from types import TracebackType
from typing import Self

from shared.manifest.checks import HashCheck, examine
from shared.manifest.destination import LONGEST_BATCH_ID, Destination
from shared.manifest.device import FIELDS, Device, Row
from shared.manifest.findings import Code, Finding, Refused, quote
from shared.manifest.formats import read_rows
from shared.manifest.json_format import Heading

FINDINGS_KEPT = 1_000
_IN_MEMORY = 8 * 1024 * 1024


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
    """What became of one row. Where it names no batch that can be used, `batch_id` is what it says, if anything."""

    row: int
    device: Device
    batch_id: str
    findings: tuple[Finding, ...]
    goes: bool

    @property
    def is_bad(self) -> bool:
        return any(f.is_error for f in self.findings)


def read_manifest(chunks: Iterable[bytes], destination: Destination, rules: Rules) -> Manifest:
    """Read a whole manifest. It never raises for what is in the bytes: a refusal is in the Manifest."""
    manifest = Manifest(destination, rules)
    source = _Source(chunks, rules.max_bytes)
    try:
        with closing(read_rows(source)) as items:
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
        self.rows = 0
        self.devices = 0
        self.of_file: list[Finding] = []  # what no row's verdict holds
        self._first_errors: list[tuple[int, Finding]] = []
        self._first_warnings: list[tuple[int, Finding]] = []
        self.finding_counts: Counter[str] = Counter()
        self.errors = 0
        self.refusal: Finding | None = None
        self.batches: dict[str, int] = {}
        self._heading = Heading()
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the manifest
        self._offsets = array("Q")
        self._tags: dict[str, int] = {}
        self._tag_names: list[str] = []
        self._tag_of = array("L")
        self._bad = bytearray()  # per row: 0 good, 1 bad, 2 left out as a twin
        self._seen: dict[bytes, int] = {}
        self._later: defaultdict[int, list[Finding]] = defaultdict(list)
        self._batch_of_tag: list[str | Finding] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def findings(self) -> list[Finding]:
        """The first 1,000, as they were found; warnings only as far as they leave room for errors."""
        warnings = self._first_warnings[: FINDINGS_KEPT - len(self._first_errors)]
        return [finding for _, finding in sorted([*self._first_errors, *warnings], key=itemgetter(0))]

    @property
    def is_accepted(self) -> bool:
        return self.refusal is None

    # While reading

    def add(self, item: Row | Finding | Heading) -> None:
        if isinstance(item, Row):
            self._add_row(item)
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
        index = self.rows
        row, findings = examine(row, self.rules.hash_check)
        tag = row.group_tag[: LONGEST_BATCH_ID + 1]  # longer ones are invalid, and would be kept in memory
        if not self.destination.is_customer(row.customer_id):
            findings.append(_mismatch(row.customer_id, row.number))
        twin = self._twin(row, index) if row.device.is_identified else None
        for finding in findings:
            self._note(finding)
        if twin is not None:
            findings.append(twin)
            self._note(twin)
        self._bad.append(
            1 if any(f.is_error for f in findings) else 2 if twin is not None else 0,
        )
        self._offsets.append(self._file.tell())
        if tag not in self._tags:
            self._tags[tag] = len(self._tags)
            self._tag_names.append(tag)
        self._tag_of.append(self._tags[tag])
        marshal.dump((row.number, astuple(row.device), [_packed(f) for f in findings]), self._file)
        self.rows += 1

    def _twin(self, row: Row, index: int) -> Finding | None:
        """The finding that an earlier row is this device's, if there is one. Marks that row where the two disagree."""
        whole = _digest("", *astuple(row.device), row.group_tag)
        if (first := self._seen.setdefault(whole, index)) != index:
            number = self._row_number(first)
            message = f"The same device stands in row {number}; this row was left out."
            return Finding(Code.DUPLICATE_DEVICE, message, row.number)
        for field in ("serial_number", "product_key", "hardware_hash"):
            value = getattr(row.device, field)
            if not value:
                continue
            first = self._seen.setdefault(_digest(field, value), index)
            if first != index:
                number = self._row_number(first)
                self._condemn(first, _conflict(field, value, number, row.number))
                return _conflict(field, value, row.number, number)
        return None

    def _condemn(self, index: int, finding: Finding) -> None:
        if not any(f.column == finding.column for f in self._later[index]):
            self._later[index].append(finding)
            self._note(finding)
        self._bad[index] = 1

    def _note(self, finding: Finding) -> None:
        self.finding_counts[str(finding.code)] += 1
        self.errors += finding.is_error
        kept = self._first_errors if finding.is_error else self._first_warnings
        if len(kept) < FINDINGS_KEPT:
            kept.append((self.finding_counts.total(), finding))

    # When all was read

    def finish(self) -> None:
        """The verdict on the whole. Raises Refused where nothing may go."""
        if self.rows == 0:
            raise Refused(Code.EMPTY_MANIFEST, "The file holds no device: no row has a value in a column we know.")
        if not self.destination.is_customer(self._heading.customer_id):
            raise Refused(Code.CUSTOMER_MISMATCH, _mismatch(self._heading.customer_id).message, column="CustomerId")
        self._settle_batches()
        bad = sum(b == 1 for b in self._bad)
        if bad * 100 > self.rows * self.rules.bad_rows_allowed or not self.devices:
            self._refuse_for_bad_rows(bad)

    def _settle_batches(self) -> None:
        spelling: dict[str, str] = {}
        for tag in self._tag_names:
            batch = self.destination.batch(self._heading.batch_id, tag)
            if isinstance(batch, str):
                batch = spelling.setdefault(batch.casefold(), batch)
            self._batch_of_tag.append(batch)
        if len(spelling) > self.rules.max_batches:
            raise Refused(
                Code.TOO_MANY_BATCHES,
                f"The rows name {len(spelling)} batches; at most {self.rules.max_batches} are taken from one file.",
            )
        for index in range(self.rows):
            batch = self._batch_of_tag[self._tag_of[index]]
            if isinstance(batch, Finding):
                self._bad[index] = 1
                self._note(replace(batch, row=self._row_number(index)))
            elif not self._bad[index]:
                self.batches[batch] = self.batches.get(batch, 0) + 1
        self.devices = sum(self.batches.values())

    def _refuse_for_bad_rows(self, bad: int) -> None:
        codes = self._codes_of_all_bad_rows()
        of_bad_rows = (f for i, v in enumerate(self.verdicts()) if self._bad[i] == 1 for f in v.findings)
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
            if self._bad[index] == 1:
                mine = {f.code for f in verdict.findings if f.is_error}
                codes = mine if codes is None else codes & mine
                if not codes:
                    break
        return codes or set()

    def verdicts(self) -> Iterator[Verdict]:
        """Every row in the manifest's order, with all that was found of it."""
        for index in range(len(self._offsets)):
            yield self._verdict(index)

    def devices_of(self, batch_id: str) -> Iterator[tuple[int, Device]]:
        """Row number and device of each row that goes into `batch_id`, in the manifest's order."""
        mine = {i for i, batch in enumerate(self._batch_of_tag) if batch == batch_id}
        for index in range(len(self._offsets)):
            if self._tag_of[index] in mine and not self._bad[index]:
                number, device, _ = self._load(index)
                yield number, device

    def _verdict(self, index: int) -> Verdict:
        number, device, findings = self._load(index)
        findings += self._later.get(index, [])
        tag = self._tag_of[index]
        batch = self._batch_of_tag[tag] if self._batch_of_tag else self._tag_names[tag]
        if isinstance(batch, Finding):
            findings.append(replace(batch, row=number))
            batch = self._tag_names[tag]
        return Verdict(number, device, batch, tuple(findings), goes=self.is_accepted and not self._bad[index])

    def _row_number(self, index: int) -> int:
        return self._load(index)[0]

    def _load(self, index: int) -> tuple[int, Device, list[Finding]]:
        end = self._file.tell()
        self._file.seek(self._offsets[index])
        number, values, findings = marshal.load(self._file)  # noqa: S302 - we wrote it
        self._file.seek(end)
        return number, Device(*values), [Finding(Code(c), m, number, column, s) for c, m, column, s in findings]


def _packed(finding: Finding) -> tuple[str, str, str, bool]:
    return str(finding.code), finding.message, finding.column, finding.strict


def _digest(*values: str) -> bytes:
    return blake2b("\0".join(values).encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _mismatch(claimed: str, row: int | None = None) -> Finding:
    message = f"{quote(claimed)} is not the customer whose folder the file was dropped into."
    return Finding(Code.CUSTOMER_MISMATCH, message, row)


def _conflict(field: str, value: str, row: int, other: int) -> Finding:
    what = FIELDS[field]
    return Finding(
        Code.CONFLICTING_DUPLICATE,
        f"Row {other} has the same {what}{'' if field == 'hardware_hash' else ' ' + quote(value)} but differs "
        "elsewhere. Keep the right one of the two.",
        row,
        what,
    )
