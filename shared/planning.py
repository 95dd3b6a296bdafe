"""From a manifest to its plan: the requests it makes, and the sections of its record."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import batched
from threading import Lock
from types import TracebackType
from typing import Self

from shared.manifest import Answer, Device, Finding, Manifest, refusal_csv, report_csv, resend_csv
from shared.partner_center import render_device
from shared.plan import FoundInManifest, Part, Plan, Section, Upload, request_ids, row_ranges

_IN_MEMORY = 8 * 1024 * 1024


class Draft:
    """A plan and its sections, on this machine's disk until the ledger has them. Close it."""

    def __init__(self) -> None:
        self.plan: Plan
        self._lock = Lock()
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed with the draft

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def whole(self) -> Section:
        """All sections, one behind the other."""
        return Section(offset=0, length=self._file.seek(0, 2))

    def append(self, pieces: Iterable[bytes]) -> tuple[Section, str]:
        """A new section of these pieces, and its SHA-256."""
        offset, digest = self._file.tell(), sha256()
        for piece in pieces:
            self._file.write(piece)
            digest.update(piece)
        return Section(offset=offset, length=self._file.tell() - offset), digest.hexdigest()

    def read(self, section: Section) -> bytes:
        with self._lock:
            self._file.seek(section.offset)
            return self._file.read(section.length)


def plan_refusal(upload: Upload, finding: Finding, customer_id: str | None = None) -> Draft:
    """The plan of an upload that is refused without being read."""
    found = FoundInManifest.of(finding)
    draft = Draft()
    draft.plan = Plan(
        upload=upload,
        customer_id=customer_id,
        verdict="rejected",
        refusal=found,
        errors=1,
        finding_counts={str(finding.code): 1},
        findings=[found],
        report_csv=draft.append(refusal_csv(finding))[0],
    )
    return draft


def plan_manifest(upload: Upload, manifest: Manifest, devices_per_request: int) -> Draft:
    """The plan of a manifest that was read, whether it goes or not."""
    draft = Draft()
    answer = Answer.to(manifest)
    parts = list(_parts(draft, upload, manifest, devices_per_request)) if manifest.is_accepted else []
    rows_csv, _ = draft.append(report_csv(manifest))
    to_resend, _ = draft.append(resend_csv(manifest) if manifest.is_accepted and manifest.errors else ())
    draft.plan = Plan(
        upload=upload,
        sha256=manifest.sha256,
        customer_id=answer.customer_id,
        verdict=answer.verdict,
        refusal=FoundInManifest.of(answer.refusal) if answer.refusal else None,
        rows=answer.rows,
        devices=answer.devices,
        errors=manifest.errors,
        finding_counts=dict(answer.finding_counts),
        findings=[FoundInManifest.of(f) for f in answer.findings],
        batches=dict(answer.batches),
        parts=parts,
        report_csv=rows_csv,
        resend_csv=to_resend if to_resend.length else None,
    )
    return draft


def _parts(draft: Draft, upload: Upload, manifest: Manifest, devices_per_request: int) -> Iterator[Part]:
    number = 0
    for batch_id in manifest.batches:
        for some in batched(manifest.devices_of(batch_id), devices_per_request, strict=False):
            number += 1
            section, digest = draft.append(_array(device for _, device in some))
            yield Part(
                offset=section.offset,
                length=section.length,
                digest=digest,
                number=number,
                batch_id=batch_id,
                rows=row_ranges(row for row, _ in some),
                device_count=len(some),
                **request_ids(upload, number),
            )


def _array(devices: Iterable[Device]) -> Iterator[bytes]:
    separator = b"["
    for device in devices:
        yield separator + render_device(device)
        separator = b","
    yield b"]"
