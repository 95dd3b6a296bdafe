"""Sets records going again. Each command says what it did in one sentence a record."""

from __future__ import annotations

from collections.abc import Iterator

from shared.ledger import Entry
from shared.plan import Plan
from tools.intake.look import view
from tools.intake.parts import Parts
from tools.intake.words import View, moment, rows_in_words


class NotNow(Exception):
    """It cannot be done to this record; the text says why, and what to do instead."""


def resume(parts: Parts, entry: Entry) -> str:
    """Have it gone on with now. Nobody's claim is broken: where one stands, nothing is done."""
    going = parts.ledger.set_going(entry.key)
    if going is None:
        seen = view(parts, _as_it_is(parts, entry.key))
        if seen.state.done:
            return f"has ended already. {seen.sentence}"
        return f"is being worked on, until {moment(seen.state.until)} at most. Nothing to do."
    parts.queues.wake(entry.key, going.nonce)
    return "goes on now." if not going.problem else f"goes on now; {going.problem} ends with its first success."


def read_again(parts: Parts, key: str, name: str) -> str:
    """Have a blob read as if for the first time that was given up while it was read."""
    parts.ledger.forget_readings(key)
    parts.queues.announce(name, key)
    return "is read again now."


def stalled(parts: Parts) -> Iterator[Entry]:
    return (e for e in parts.ledger.entries() if e.state.stalled)


def stopped_by(parts: Parts, problem: str) -> Iterator[Entry]:
    """All that wait for a problem; a code means it of every customer and manifest."""
    for entry in parts.ledger.entries():
        if not entry.state.done and (entry.state.problem == problem or entry.state.problem.startswith(f"{problem}/")):
            yield entry


def resubmission(parts: Parts, entry: Entry) -> tuple[View, Plan]:
    """What would be sent again, and as what. Raises NotNow."""
    seen = view(parts, entry)
    _refuse_unless_sendable(seen)
    plan = seen.plan.again()
    while list(parts.ledger.entries(plan.upload.key)):
        seen = view(parts, _as_it_is(parts, plan.upload.key))
        if not seen.state.done:
            raise NotNow(f"is being sent again already, as {seen.plan.upload.id}. {seen.sentence}")
        plan = plan.again()
    return seen, plan


def _refuse_unless_sendable(seen: View) -> None:
    plan = seen.plan
    if plan.verdict == "rejected":
        raise NotNow("was rejected, so there is nothing to send again. Its sender must correct it and drop it anew.")
    if plan.verdict == "dry-run":
        raise NotNow("was a dry run. End the customer's dryRun in CUSTOMERS, and have it dropped anew.")
    if not seen.state.done:
        raise NotNow(f"is still under way, and would be sent twice. Try: resume {plan.upload.id}")


def would_resubmit(plan: Plan) -> str:
    some = (
        f"part {p.number}: {p.device_count:,} devices to {p.batch_id}, rows {rows_in_words(p.rows)}" for p in plan.parts
    )
    return f"customer {plan.customer_id}, " + "; ".join(some)


def resubmit(parts: Parts, seen: View, plan: Plan) -> str:
    """Send the planned requests once more, as a record of its own. The blob is not looked at, nor changed."""
    state = parts.ledger.add_again(seen.record, plan)
    if state is None:
        raise NotNow(f"is being sent again already, as {plan.upload.id}.")
    parts.queues.wake(plan.upload.key, state.nonce)
    return f"is sent again as {plan.upload.id}: {plan.devices:,} devices in {len(plan.parts)} requests."


def replay(parts: Parts, entry: Entry) -> str:
    """Put its messages on their queues again, as they were. Raises NotNow where it has said nothing yet."""
    outcomes = parts.ledger.outcomes(entry.key)
    if not outcomes:
        raise NotNow("has no messages: nothing was sent of it, or not yet.")
    for outcome in outcomes.values():
        parts.queues.send(outcome.message)
    kinds = ", ".join(sorted({o.kind for o in outcomes.values()}))
    return f"said again: {len(outcomes)} messages ({kinds}), byte for byte."


def _as_it_is(parts: Parts, key: str) -> Entry:
    return next(parts.ledger.entries(key))
