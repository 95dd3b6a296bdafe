"""Where a supplier finds the reports of an upload, and what its report says of the sending."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from shared.manifest import FINDINGS_KEPT, Answer, Finding, is_addressable
from shared.plan import Plan, Upload

CONTAINER = "manifest-reports"
_LONGEST_NAME = 900  # of the 1,024 characters, counted as .NET does, that a blob's name may have

type State = Literal["received", "waiting", "submitted", "finished"]


def latest_name(upload: Upload) -> str:
    """The report of the latest upload of this name."""
    return f"{_path(upload)}.report.json"


def own_name(upload: Upload, kind: str) -> str:
    """The `kind` (`report.json`, `report.csv`, `resend.csv`) of this very upload, which later ones never touch."""
    return f"{_path(upload)}.{upload.received:%Y%m%dT%H%M%SZ}-{upload.id}.{kind}"


def _path(upload: Upload) -> str:
    """Where an upload's reports lie: its own path, but for one that would lead elsewhere."""
    if not is_addressable(upload.name):
        return f"unaddressable/{upload.id}"
    return upload.name.encode("utf-16-le")[: 2 * _LONGEST_NAME].decode("utf-16-le", "ignore")


def report_url(upload: Upload) -> str:
    account = upload.container_url.rsplit("/", 1)[0]
    return f"{account}/{CONTAINER}/{quote(own_name(upload, 'report.json'))}"


def report_json(
    plan: Plan,
    state: State,
    now: datetime,
    *,
    locations: Mapping[str, Sequence[str | None]] = MappingProxyType({}),
    refused: Sequence[Finding] = (),
    duplicate_of: str | None = None,
) -> bytes:
    """The report. `locations`: of each batch so far; `refused`: what Partner Center refused."""
    upload = plan.upload
    report = {
        "manifest": {
            "id": upload.id,
            "container": upload.container,
            "name": upload.name,
            "etag": upload.etag,
            "sha256": plan.sha256,
            "received": f"{upload.received:%Y-%m-%dT%H:%M:%SZ}",
        },
        "updated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "state": state,
        **_with_refused(plan.answer, refused, state).as_json(locations),
    }
    if duplicate_of:
        report |= {"verdict": "duplicate", "duplicateOf": duplicate_of}
    return json.dumps(report, ensure_ascii=False, indent=2).encode()


def _with_refused(answer: Answer, refused: Sequence[Finding], state: State) -> Answer:
    if not refused:
        return answer
    return replace(
        answer,
        verdict="rejected" if state == "finished" else "accepted-with-errors",  # finished: none of it was taken
        finding_counts=Counter(answer.finding_counts) + Counter(str(f.code) for f in refused),
        findings=[*refused, *answer.findings][:FINDINGS_KEPT],
    )
