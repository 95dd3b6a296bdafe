"""What the supplier reads: beside each manifest its report, its rows as CSV, and the bad rows to correct and resend."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from shared.manifest import Device, Finding, Manifest, Verdict, is_addressable, serial_of, without_hashes
from shared.plan import Plan, Upload

CONTAINER = "manifest-reports"
_REPORT_COLUMNS = ["row", "serial", "product_key", "manufacturer", "model", "batch", "verdict", "code", "message"]
_RESEND_COLUMNS = [
    "Device Serial Number",
    "Windows Product ID",
    "Hardware Hash",
    "Manufacturer name",
    "Device model",
    "Group Tag",
]
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_PIECE = 256 * 1024
_LONGEST_CELL = 1_024
_LONGEST_NAME = 900  # of the 1,024 characters that a blob's name may have

type State = Literal["received", "waiting", "submitted", "finished"]


def latest_name(upload: Upload) -> str:
    """The report of the latest upload of this name."""
    return f"{_path(upload)}.report.json"


def own_name(upload: Upload, kind: str) -> str:
    """The `kind` (`report.json`, `report.csv`, `resend.csv`) of this very upload, which later ones never touch."""
    return f"{_path(upload)}.{upload.received:%Y%m%dT%H%M%SZ}-{upload.id}.{kind}"


def _path(upload: Upload) -> str:
    """Where an upload's reports lie: its own path, but for one that would lead elsewhere."""
    return upload.name[:_LONGEST_NAME] if is_addressable(upload.name) else f"unaddressable/{upload.id}"


def report_url(upload: Upload) -> str:
    account = upload.container_url.rsplit("/", 1)[0]
    return f"{account}/{CONTAINER}/{quote(own_name(upload, 'report.json'))}"


def report_json(
    plan: Plan,
    state: State,
    now: datetime,
    *,
    batches: Sequence[tuple[str, int, Sequence[str | None]]] = (),
    refused: Sequence[Finding] = (),
    duplicate_of: str | None = None,
) -> bytes:
    """The report. `batches`: batch id, devices and locations so far; `refused`: what Partner Center refused."""
    upload = plan.upload
    findings = [*refused, *(f.finding for f in plan.findings)][:1000]
    counts = dict(plan.finding_counts)
    for finding in refused:
        counts[str(finding.code)] = counts.get(str(finding.code), 0) + 1
    verdict = "accepted-with-errors" if refused and plan.verdict == "accepted" else plan.verdict
    if refused and state == "finished":
        verdict = "rejected"  # Partner Center took none of it
    report: dict[str, object] = {
        "manifest": {
            "id": upload.id,
            "container": upload.container,
            "name": upload.name,
            "etag": upload.etag,
            "sha256": plan.sha256,
            "received": f"{upload.received:%Y-%m-%dT%H:%M:%SZ}",
        },
        "state": state,
        "verdict": "duplicate" if duplicate_of else verdict,
        "updated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "customerId": plan.customer_id,
        "rows": plan.rows,
        "devices": plan.devices,
        "findingCounts": counts,
        "batches": [
            {"batchId": batch, "devices": devices, "locations": locations} for batch, devices, locations in batches
        ],
        "findings": [f.as_json() for f in findings],
    }
    if plan.refusal:
        report["reason"] = {"code": plan.refusal.code, "message": plan.refusal.message}
    if duplicate_of:
        report["duplicateOf"] = duplicate_of
    return json.dumps(report, ensure_ascii=False, indent=2).encode()


def report_csv(manifest: Manifest) -> Iterator[bytes]:
    """`….report.csv`: every row with its verdict, a line for each finding. A spreadsheet that opens it runs nothing."""
    of_file = dict.fromkeys(f for f in (manifest.refusal, *manifest.of_file) if f)
    lines = [["" if f.row is None else str(f.row), *[""] * 6, str(f.code), f.message] for f in of_file]
    yield b"\xef\xbb\xbf"
    yield from _csv(_REPORT_COLUMNS, lines, (_report_lines(v) for v in manifest.verdicts()), clean=_inert)


def resend_csv(manifest: Manifest) -> Iterator[bytes]:
    """`….resend.csv`: the bad rows alone, exactly as sent, in Microsoft's columns and Group Tag. It may hold hashes."""
    bad = ([[*_columns(v.device), v.batch_id]] for v in manifest.verdicts() if v.is_bad and not v.device.is_blank)
    yield from _csv(_RESEND_COLUMNS, [], bad, clean=str)


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
    about = [
        str(verdict.row),
        serial_of(device),
        device.product_key,
        device.manufacturer,
        device.model,
        verdict.batch_id,
        word,
    ]
    return [[*about, str(f.code), f.message] for f in verdict.findings] or [[*about, "", ""]]


def _csv(
    header: list[str], first: list[list[str]], rows: Iterable[list[list[str]]], clean: Callable[[str], str]
) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(first)
    for lines in rows:
        writer.writerows([clean(cell) for cell in line] for line in lines)
        if text.tell() > _PIECE:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _inert(cell: str) -> str:
    """The cell without a hash that slipped into another column, and with nothing that a spreadsheet would run."""
    cell = without_hashes(cell[:_LONGEST_CELL])
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
