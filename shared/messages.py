"""What the queues carry: CloudEvents 1.0 in structured JSON, held to the schemas in docs/schemas by the tests.

A message is made once, kept in the ledger, and said again byte for byte. Text that others wrote is cut, so that each
stays under 48 KiB whatever is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import NAMESPACE_URL, uuid5

from shared.faults import Severity
from shared.manifest import Code, Finding, printable
from shared.partner_center import Accepted, RequestRefused
from shared.plan import Part, Plan
from shared.reports import report_url

LARGEST = 48 * 1024 - 1  # bytes, before Base64
LOCATIONS_AT_MOST = 100
FINDINGS_AT_MOST = 10
ROWS_AT_MOST = 200
LONGEST_ADVICE = 3_000
_PREFIX = "io.autopilotdrop."


class Channel(StrEnum):
    """Which of the queues a message is for; the settings say what each is called."""

    RESULT = "result"
    OUTCOME = "outcome"
    REJECTION = "rejection"
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is sent: `text` is JSON."""

    channel: Channel
    text: str


def upload_submitted(plan: Plan, part: Part, batch_id: str, accepted: Accepted, now: datetime) -> Message:
    """Partner Center took one request. `batch_id` is as Partner Center spells it."""
    data = {
        "location": accepted.location,
        "trackingUri": accepted.tracking_uri,
        **_of_part(plan, part, batch_id),
        "requestId": accepted.request_id,
        "correlationId": accepted.correlation_id,
    }
    return _message(Channel.RESULT, "upload.submitted", plan, data, now, subject=batch_id, part=str(part.number))


def upload_refused(
    plan: Plan, part: Part, batch_id: str, refused: RequestRefused, code: Code, now: datetime
) -> Message:
    """Partner Center refused one request for good; `code` is the finding code."""
    data = {
        "reason": str(code),
        "serviceCode": refused.error.code or None,
        "serviceMessage": refused.error.description,
        **_of_part(plan, part, batch_id),
        "rows": [list(r) for r in part.rows[:ROWS_AT_MOST]],
        "requestId": refused.request_id,
        "correlationId": refused.correlation_id,
    }
    return _message(Channel.REJECTION, "upload.refused", plan, data, now, subject=batch_id, part=str(part.number))


def manifest_rejected(plan: Plan, now: datetime) -> Message:
    """Nothing of the manifest was sent, and its sender can mend that."""
    refusal = plan.refusal.finding if plan.refusal else Finding(Code.NOT_A_MANIFEST, "")
    first = [f.finding for f in plan.findings if f.finding.is_error][:FINDINGS_AT_MOST] or [refusal]
    data = {
        "reason": str(refusal.code),
        "message": refusal.message,
        "customerId": plan.customer_id,
        "errors": plan.errors,
        "firstFindings": [f.as_json() for f in first],
    }
    return _message(Channel.REJECTION, "manifest.rejected", plan, data, now, shorten="firstFindings")


def manifest_duplicate(plan: Plan, first: Plan, locations: Sequence[tuple[str, str | None]], now: datetime) -> Message:
    """The content was sent before, by `first`. `locations`: batch id and Location of each request known so far."""
    data = {
        "customerId": plan.customer_id,
        "duplicateOf": _manifest(first),
        "locations": [{"batchId": b, "location": u} for b, u in locations[:LOCATIONS_AT_MOST]],
        "locationCount": len(locations),
    }
    return _message(Channel.RESULT, "manifest.duplicate", plan, data, now, shorten="locations")


@dataclass(frozen=True, slots=True)
class Problem:
    """What only an operator can end. `about`: the customer or manifest it is of, where each is a matter of its own."""

    code: str
    about: str
    severity: Severity
    advice: str
    since: datetime

    @property
    def id(self) -> str:
        return f"{self.code}/{self.about}" if self.about else self.code

    def as_json(self) -> str:
        return _json(
            {
                "problem": self.code,
                "about": self.about or None,
                "severity": self.severity,
                "advice": self.advice,
                "since": self.since.isoformat(),
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        d = json.loads(text)
        return cls(d["problem"], d["about"] or "", d["severity"], d["advice"], datetime.fromisoformat(d["since"]))


def action_needed(problem: Problem, source: str, waiting: Sequence[Plan], count: int, now: datetime) -> Message:
    """Only an operator can set the work going. `source`: the problem's record; `waiting`: the first of `count`."""
    return _alert("operator.action-needed", problem, source, waiting, max(count, len(waiting)), now)


def action_resolved(problem: Problem, source: str, now: datetime) -> Message:
    """The problem is over, and what waited for it goes on."""
    return _alert("operator.resolved", problem, source, [], 0, now)


def _alert(kind: str, problem: Problem, source: str, waiting: Sequence[Plan], count: int, now: datetime) -> Message:
    name = f"urn:autopilotdrop:{problem.id}:{problem.since.isoformat()}/{kind}/{_time(now)}"
    event = _event(kind, str(uuid5(NAMESPACE_URL, name)), source, problem.id, now)
    data: dict[str, object] = {
        "problem": problem.code,
        "about": problem.about or None,
        "severity": problem.severity,
        "since": _time(problem.since),
        "advice": problem.advice[:LONGEST_ADVICE],
        "waiting": [_manifest(p) | {"report": report_url(p.upload)} for p in waiting],
        "waitingCount": count,
    }
    return Message(Channel.ALERT, _fitting(event, data, "waiting"))


def _message(
    channel: Channel,
    kind: str,
    plan: Plan,
    data: Mapping[str, object],
    now: datetime,
    *,
    subject: str = "",
    part: str = "",
    shorten: str = "",
) -> Message:
    upload = plan.upload
    # A name may hold control characters, of which CloudEvents allows none.
    subject = "/".join(s for s in (plan.customer_id, subject) if s) or printable(upload.name)
    event = _event(kind, str(upload.derive(kind, part)), upload.url, subject, now)
    data = {**data, "manifest": _manifest(plan), "report": report_url(upload)}
    return Message(channel, _fitting(event, data, shorten))


def _event(kind: str, event_id: str, source: str, subject: str, now: datetime) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "type": _PREFIX + kind,
        "id": event_id,
        "source": source,
        "subject": subject,
        "time": _time(now),
        "datacontenttype": "application/json",
        "dataschema": f"urn:autopilotdrop:{kind}:1",
    }


def _fitting(event: Mapping[str, object], data: dict[str, object], shorten: str) -> str:
    """The text; the list `shorten` in its data loses its end while the whole is too large."""
    text = _json({**event, "data": data})
    while len(text.encode()) > LARGEST and isinstance(items := data.get(shorten), list) and len(items) > 1:
        data = {**data, shorten: items[: len(items) // 2]}
        text = _json({**event, "data": data})
    return text


def _json(event: Mapping[str, object]) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _of_part(plan: Plan, part: Part, batch_id: str) -> dict[str, object]:
    return {
        "customerId": plan.customer_id,
        "batchId": batch_id,
        "part": part.number,
        "parts": len(plan.parts),
        "deviceCount": part.device_count,
    }


def _manifest(plan: Plan) -> dict[str, object]:
    upload = plan.upload
    return {
        "id": upload.id,
        "container": upload.container,
        "name": upload.name,
        "etag": upload.etag,
        "sha256": plan.sha256,
    }


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
