"""What an operator reads of a record: one sentence, one line, or all of it; and the same for machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from shared.ledger import Entry, Outcome, Record, State
from shared.messages import Problem
from shared.plan import Part, Plan, row_ranges
from shared.reports import own_name

STATES = {
    "held": "an invocation works on it",
    "waiting": "it is tried again later",
    "waiting-for-operator": "its problem must be mended first",
    "stalled": "it waits for `resume`",
    "due": "the next wake-up or sweep goes on with it",
    "done": "nothing is left to do",
}
_RANGES_AT_MOST = 20


def standing(state: State, now: datetime) -> str:
    """One of STATES."""
    if state.done:
        return "done"
    if state.stalled:
        return "stalled"
    if state.is_held(now):
        return "held"
    if state.waits_for_operator:
        return "waiting-for-operator"
    return "waiting" if state.is_waiting(now) else "due"


@dataclass(frozen=True)
class View:
    """One record with all that is known of it."""

    entry: Entry
    record: Record
    outcomes: Mapping[str, Outcome]
    now: datetime
    problem: Problem | None = None

    @property
    def plan(self) -> Plan:
        return self.record.plan

    @property
    def state(self) -> State:
        return self.entry.state

    @property
    def standing(self) -> str:
        return standing(self.state, self.now)

    def outcome(self, part: Part) -> Outcome | None:
        return self.outcomes.get(f"{part.number:05d}")

    @cached_property
    def sent(self) -> int:
        """Devices that Partner Center took."""
        return sum(p.device_count for p in self.plan.parts if (o := self.outcome(p)) and o.kind == "submitted")

    @cached_property
    def refused(self) -> tuple[int, list[tuple[int, int]]]:
        """How many rows were refused, by us or by Partner Center, and which."""
        bad = {f.row for f in self.plan.findings if f.row is not None and f.finding.is_error}
        refused = [p for p in self.plan.parts if (o := self.outcome(p)) and o.kind == "refused"]
        ranges = sorted([*row_ranges(sorted(bad)), *(r for p in refused for r in p.rows)])
        return len(bad) + sum(p.device_count for p in refused), ranges

    @property
    def sentence(self) -> str:
        """The answer to “where are my 480 devices?”."""
        plan = self.plan
        if plan.verdict == "rejected":
            why = f"{plan.refusal.code}: {plan.refusal.message}" if plan.refusal else "see the report"
            return f"Nothing sent, rejected as {why}"
        if plan.verdict == "dry-run":
            return f"Nothing sent, {plan.devices:,} would have been: a dry run."
        if self.outcomes.keys() == {"duplicate"}:
            first = self.outcomes["duplicate"].duplicate_of
            if self.state.done:
                return f"Nothing sent again, the content was sent before as {first}."
            return f"Nothing sent, the same content is under way as {first}; this one is sent if that one is refused."
        some = f"{self.sent:,} sent" if self.sent == plan.devices else f"{self.sent:,} of {plan.devices:,} sent"
        return f"{some}{self._refused_in_words()}{self._standing_in_words()}."

    def _refused_in_words(self) -> str:
        count, ranges = self.refused
        if not count:
            return ""
        kept = sum(f.finding.is_error for f in self.plan.findings)
        more = " and more, see the report" if kept < self.plan.errors or len(ranges) > _RANGES_AT_MOST else ""
        plural = "row" if count == 1 else "rows"
        return f", {count:,} refused: {plural} {rows_in_words(ranges)}{more}"

    def _standing_in_words(self) -> str:
        state = self.state
        match self.standing:
            case "done":
                return ""
            case "held":
                return "; an invocation is at it right now"
            case "stalled":
                return f"; stalled until `resume {self.plan.upload.id}`"
            case "waiting-for-operator":
                return f"; waits until {state.problem} is over"
            case "waiting":
                return f"; tried again at {moment(state.due)}"
            case _:
                return "; the next wake-up or sweep goes on with it"

    @property
    def since(self) -> datetime:
        """When it came into its present state, as far as is known."""
        if self.standing == "waiting-for-operator" and self.problem:
            return max(self.problem.since, self.entry.written)
        return self.state.since or self.entry.changed

    @property
    def line(self) -> str:
        upload = self.plan.upload
        return (
            f"{self.entry.written:%Y-%m-%d %H:%M}  {upload.id}  {self.standing:<20}  "
            f"{printable(upload.name)}  {printable(self.sentence)}"
        )

    @property
    def page(self) -> Iterator[str]:
        """All of it, for a person."""
        plan, upload, state = self.plan, self.plan.upload, self.state
        yield f"{upload.id}  {printable(upload.name)}"
        yield _row("answer", printable(self.sentence))
        yield _row("customer", plan.customer_id or "unknown")
        yield _row("received", f"{moment(upload.received)}, {upload.size:,} bytes{_again(upload.again)}")
        yield _row("state", f"{self.standing} since {moment(self.since)}: {STATES[self.standing]}")
        if state.due and not state.done:
            yield _row("next try", f"{moment(state.due)}, after {state.waits} waits")
        if state.until and self.standing == "held":
            yield _row("held until", f"{moment(state.until)}, start {state.starts}")
        if state.problem and not state.done:
            yield _row("problem", state.problem)
        if self.problem:
            yield _row("advice", printable(self.problem.advice))
        for part in plan.parts:
            yield _row(f"request {part.number}", printable(self._request_in_words(part)))
        counts = (f"{code} {count:,}" for code, count in plan.finding_counts.items())
        yield _row("findings", ", ".join(counts) or "none")
        yield _row("report", printable(own_name(upload, "report.json")))

    def _request_in_words(self, part: Part) -> str:
        what = f"{part.device_count:,} devices to {part.batch_id}, rows {rows_in_words(part.rows)}: "
        outcome = self.outcome(part)
        if outcome is None:
            return what + ("not sent" if self.state.done else "not sent, or without an answer yet")
        came = f" {outcome.location or 'without a Location'}" if outcome.kind == "submitted" else f" {outcome.detail}"
        return f"{what}{outcome.kind}{came}{'' if part.number <= self.state.told else ', not told yet'}"

    def as_json(self) -> dict[str, object]:
        plan, upload, state = self.plan, self.plan.upload, self.state
        return {
            "id": upload.id,
            "name": upload.name,
            "customerId": plan.customer_id,
            "received": upload.received.isoformat(),
            "planned": self.entry.written.isoformat(),
            "verdict": plan.verdict,
            "sentence": self.sentence,
            "state": self.standing,
            "since": self.since.isoformat(),
            "due": state.due.isoformat() if state.due and not state.done else None,
            "waits": state.waits,
            "starts": state.starts,
            "problem": state.problem or None,
            "advice": self.problem.advice if self.problem else None,
            "devices": plan.devices,
            "sent": self.sent,
            "refusedRows": [list(r) for r in self.refused[1]],
            "requests": [self._request_as_json(p) for p in plan.parts],
            "findingCounts": plan.finding_counts,
            "report": own_name(upload, "report.json"),
        }

    def _request_as_json(self, part: Part) -> dict[str, object]:
        outcome = self.outcome(part)
        return {
            "part": part.number,
            "batchId": part.batch_id,
            "devices": part.device_count,
            "rows": [list(r) for r in part.rows],
            "result": outcome.kind if outcome else None,
            "location": outcome.location if outcome else None,
            "detail": (outcome.detail or None) if outcome else None,
            "told": outcome is not None and part.number <= self.state.told,
        }


def rows_in_words(ranges: Iterable[tuple[int, int]]) -> str:
    some = list(ranges)
    words = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in some[:_RANGES_AT_MOST])
    return f"{words}, …" if len(some) > _RANGES_AT_MOST else words


def moment(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC" if when else "once"


def printable(text: str) -> str:
    """Without what would do something to a terminal: suppliers choose names."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _row(name: str, value: str) -> str:
    return f"  {name:<11} {value}"


def _again(count: int) -> str:
    return f", sent again by an operator ({count})" if count else ""
