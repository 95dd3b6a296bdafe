"""What is said of a manifest itself: the report's body, and every row with its verdict."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.manifest.checks import serial_of
from shared.manifest.device import Device
from shared.manifest.findings import Finding, printable, without_hashes
from shared.manifest.reading import Manifest, Verdict

_REPORT_COLUMNS = ["row", "serial", "product_key", "manufacturer", "model", "batch", "verdict", "code", "message"]
_RESEND_COLUMNS = [
    "Device Serial Number",
    "Windows Product ID",
    "Hardware Hash",
    "Manufacturer name",
    "Device model",
    "Group Tag",
]
# OWASP's list, "CSV Injection". A semicolon may begin another cell: it separates them where the comma is for decimals.
_FORMULA_START = re.compile("(?:^|(?<=;))(?=[=+@＝＋－＠-])")
_MARK = b"\xef\xbb\xbf"  # without it Excel takes UTF-8 for Windows-1252
_PIECE = 256 * 1024
_LONGEST_CELL = 1_024

type Decision = Literal["accepted", "accepted-with-errors", "rejected", "dry-run"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a manifest. `batches`: how many devices go into each; `findings`: the first 1,000."""

    verdict: Decision
    customer_id: str | None
    rows: int
    devices: int
    batches: Mapping[str, int]
    finding_counts: Mapping[str, int]
    findings: Sequence[Finding]
    refusal: Finding | None

    @classmethod
    def to(cls, manifest: Manifest) -> Answer:
        goes = manifest.is_accepted
        return cls(
            verdict=_decision(manifest),
            customer_id=manifest.destination.customer_id,
            rows=manifest.rows,
            devices=manifest.devices if goes else 0,
            batches=manifest.batches if goes else {},
            finding_counts=manifest.finding_counts,
            findings=manifest.findings,
            refusal=manifest.refusal,
        )

    def as_json(self, locations: Mapping[str, Sequence[str | None]]) -> dict[str, object]:
        """The report's members that tell of the manifest itself. `locations`: of each batch, so far."""
        body: dict[str, object] = {
            "verdict": self.verdict,
            "customerId": self.customer_id,
            "rows": self.rows,
            "devices": self.devices,
            "findingCounts": dict(self.finding_counts),
            "batches": [
                {"batchId": batch, "devices": devices, "locations": list(locations.get(batch, []))}
                for batch, devices in self.batches.items()
            ],
            "findings": [f.as_json() for f in self.findings],
        }
        if self.refusal:
            body["reason"] = {"code": str(self.refusal.code), "message": self.refusal.message}
        return body


def _decision(manifest: Manifest) -> Decision:
    if not manifest.is_accepted:
        return "rejected"
    if manifest.destination.customer.dry_run:
        return "dry-run"
    return "accepted-with-errors" if manifest.errors else "accepted"


def report_csv(manifest: Manifest) -> Iterator[bytes]:
    """`….report.csv`: every row with its verdict, a line for each finding. A spreadsheet that opens it runs nothing."""
    of_file = dict.fromkeys(f for f in (manifest.refusal, *manifest.of_file) if f)
    return _report_csv(of_file, manifest.verdicts())


def refusal_csv(refusal: Finding) -> Iterator[bytes]:
    """The same, of a manifest that is refused without being read."""
    return _report_csv([refusal], [])


def _report_csv(of_file: Iterable[Finding], verdicts: Iterable[Verdict]) -> Iterator[bytes]:
    lines = [["" if f.row is None else str(f.row), *[""] * 6, str(f.code), _inert(f.message)] for f in of_file]
    yield _MARK
    yield from _csv(_REPORT_COLUMNS, lines, map(_report_lines, verdicts))


def resend_csv(manifest: Manifest) -> Iterator[bytes]:
    """`….resend.csv`: the bad rows alone, exactly as sent, in Microsoft's columns and Group Tag. It may hold hashes.

    What has no such column stands beyond them, so that no row goes for having lost what was wrong with it: not empty,
    which a spreadsheet would leave out. Nothing at all where no row is left to correct.
    """
    bad = (
        [[*_columns(v.device), v.batch_id, *(value or "?" for value in v.beyond)]]
        for v in manifest.verdicts()
        if v.is_bad and not v.device.is_blank
    )
    if first := next(bad, None):
        yield _MARK
        yield from _csv(_RESEND_COLUMNS, first, bad)


def _columns(device: Device) -> list[str]:
    return [
        device.serial_number,
        device.product_key,
        device.hardware_hash,
        device.manufacturer,
        device.model,
    ]


def _report_lines(verdict: Verdict) -> list[list[str]]:
    device = verdict.device
    word = "accepted" if verdict.goes else "rejected" if verdict.is_bad else "not-sent"
    values = serial_of(device), device.product_key, device.manufacturer, device.model, verdict.batch_id
    about = [str(verdict.row), *map(_inert, values), word]
    return [[*about, str(f.code), _inert(f.message)] for f in verdict.findings] or [[*about, "", ""]]


def _csv(header: list[str], first: list[list[str]], rows: Iterable[list[list[str]]]) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(first)
    for lines in rows:
        writer.writerows(lines)
        if text.tell() > _PIECE:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _inert(cell: str) -> str:
    """The cell without a hash that slipped into another column, and with nothing that a spreadsheet would run."""
    return _FORMULA_START.sub("'", printable(without_hashes(cell[:_LONGEST_CELL])))
