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

from shared.manifest import Code, Finding
from shared.partner_center import Accepted, RequestRefused
from shared.plan import Part, Plan
from shared.reports import report_url

LARGEST = 48 * 1024 - 1  # bytes, before Base64
LOCATIONS_AT_MOST = 100
FINDINGS_AT_MOST = 10
ROWS_AT_MOST = 200
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


def action_needed(problem: str, advice: str, plan: Plan, now: datetime) -> Message:
    """Only an operator can set the work going again."""
    data = {
        "problem": problem,
        "severity": "page",
        "advice": advice,
        "waiting": [_manifest(plan)],
        "since": _time(now),
    }
    return _message(Channel.ALERT, "operator.action-needed", plan, data, now, part=_time(now))


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
    """The message; the list `shorten` in its data loses its end while the whole is too large."""
    event = {
        "specversion": "1.0",
        "type": _PREFIX + kind,
        "id": str(plan.upload.derive(kind, part)),
        "source": plan.upload.url,
        "subject": "/".join(s for s in (plan.customer_id, subject) if s) or plan.upload.name,
        "time": _time(now),
        "datacontenttype": "application/json",
        "dataschema": f"urn:autopilotdrop:{kind}:1",
    }
    body = {**data, "manifest": _manifest(plan), "report": report_url(plan.upload)}
    text = _json(event | {"data": body})
    while len(text.encode()) > LARGEST and isinstance(items := body.get(shorten), list) and len(items) > 1:
        body[shorten] = items[: len(items) // 2]
        text = _json(event | {"data": body})
    return Message(channel, text)


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
