"""What one upload will do: frozen before anything leaves, and the same for whoever goes on with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from typing import Literal
from urllib.parse import quote
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import BaseModel, ConfigDict

from shared.manifest import Answer, Code, Decision, Finding


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Upload(_Frozen):
    """One version of one blob. `etag` is without quotes, `received` the blob's Last-Modified, whole seconds, UTC.

    `again` counts the times that an operator had this version sent again, each a record of its own.
    """

    container_url: str
    container: str
    name: str
    etag: str
    received: datetime
    size: int
    resubmit: bool = False
    again: int = 0

    @property
    def key(self) -> str:
        """Names the upload's record, and every id derives from it: 64 hex digits."""
        version = f"{self.etag}\n{self.again}" if self.again else self.etag
        return sha256(f"{self.container}/{self.name}\n{version}".encode()).hexdigest()

    @property
    def id(self) -> str:
        """`manifest.id`: the number to quote on the phone."""
        return self.key[:12]

    @property
    def url(self) -> str:
        return f"{self.container_url}/{quote(self.name)}"

    def derive(self, *parts: str) -> UUID:
        """An id for something that belongs to this upload, the same each time it is asked."""
        return uuid5(NAMESPACE_URL, "/".join((f"urn:autopilotdrop:{self.key}", *parts)))


class Section(_Frozen):
    """A byte range of the record, counted from the end of the plan."""

    offset: int
    length: int


class Part(Section):
    """One request to Partner Center. The byte range is its `Devices`, a rendered JSON array; `digest` its SHA-256.

    `rows` are inclusive ranges of the manifest's rows, in the order of the devices. The two request ids are for the two
    calls the request may become; each keeps its own until it is answered (MS-RequestId is the idempotency key).
    """

    number: int
    batch_id: str
    rows: list[tuple[int, int]]
    device_count: int
    digest: str
    create_request_id: str
    append_request_id: str


class FoundInManifest(_Frozen):
    """A Finding as the record keeps it."""

    code: Code
    message: str
    row: int | None
    column: str
    strict: bool = False

    @classmethod
    def of(cls, finding: Finding) -> FoundInManifest:
        return cls.model_validate(asdict(finding))

    @property
    def finding(self) -> Finding:
        return Finding(self.code, self.message, self.row, self.column, self.strict)


class Plan(_Frozen):
    """All that is known of an upload when its reading ends. `findings` are the first 1,000; the CSV has all."""

    version: Literal[1] = 1
    upload: Upload
    sha256: str | None = None
    customer_id: str | None = None
    verdict: Decision
    refusal: FoundInManifest | None = None
    rows: int = 0
    devices: int = 0
    errors: int = 0
    finding_counts: dict[str, int] = {}
    findings: list[FoundInManifest] = []
    batches: dict[str, int] = {}
    parts: list[Part] = []
    report_csv: Section | None = None
    resend_csv: Section | None = None

    @property
    def sections(self) -> Section:
        """All sections, one behind the other."""
        some = [*self.parts, *(s for s in (self.report_csv, self.resend_csv) if s)]
        return Section(offset=0, length=max((s.offset + s.length for s in some), default=0))

    @property
    def answer(self) -> Answer:
        return Answer(
            verdict=self.verdict,
            customer_id=self.customer_id,
            rows=self.rows,
            devices=self.devices,
            batches=self.batches,
            finding_counts=self.finding_counts,
            findings=[f.finding for f in self.findings],
            refusal=self.refusal.finding if self.refusal else None,
        )

    def again(self) -> Plan:
        """The same requests once more, as a record of its own: other ids, so that Partner Center takes them for new."""
        upload = self.upload.model_copy(update={"again": self.upload.again + 1, "resubmit": True})
        parts = [p.model_copy(update=request_ids(upload, p.number)) for p in self.parts]
        return self.model_copy(update={"upload": upload, "parts": parts})

    @property
    def content_key(self) -> str | None:
        """Names this content for this customer and these batches, whatever the file is called; None if nothing goes."""
        if not self.parts:
            return None
        meant = "\n".join((self.customer_id or "", self.sha256 or "", *sorted(self.batches)))
        return sha256(meant.encode()).hexdigest()


def request_ids(upload: Upload, number: int) -> dict[str, str]:
    """The two ids of a request, for the two calls that it may become."""
    return {f"{call}_request_id": str(upload.derive(str(number), call)) for call in ("create", "append")}


def row_ranges(rows: Iterable[int]) -> list[tuple[int, int]]:
    """`[2, 3, 4, 7]` as `[(2, 4), (7, 7)]`; rows are in ascending order."""
    ranges: list[tuple[int, int]] = []
    for row in rows:
        if ranges and ranges[-1][1] == row - 1:
            ranges[-1] = (ranges[-1][0], row)
        else:
            ranges.append((row, row))
    return ranges
