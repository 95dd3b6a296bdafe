"""One manifest, from blob to message. Read from the top: each step is a method, in the order in which they happen.

read ─► plan ─► (claim) ─► receipt ─► token ─► send ─► record ─► tell
                              └─ refused: report, rejection   └─ a fault that is not the sender's: park
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Protocol

import stamina
from azure.core.exceptions import AzureError, ResourceModifiedError

from shared import messages
from shared.alerts import Alerts
from shared.faults import Fault, NobodysFault, OperatorsFault
from shared.ledger import Claim, ClaimLost, First, Ledger, Outcome
from shared.manifest import Code, Customers, Finding, Refused, Rules, find_destination, read_manifest
from shared.messages import Message
from shared.partner_center import (
    Accepted,
    BatchExists,
    BatchNotFound,
    CustomerNotFound,
    PartnerCenter,
    RequestRefused,
)
from shared.plan import Part
from shared.planning import Draft, plan_manifest, plan_refusal
from shared.reports import State, latest_name, own_name, report_json
from shared.storage import Dropped, Manifests, Queues, Reports, fault_of, is_outage

logger = logging.getLogger(__name__)

# Temporary names of upload tools, companions of feeds, and our own reports.
_NOT_A_MANIFEST = (
    *(".filepart", ".part", ".partial", ".tmp"),
    *(".md5", ".sha256", ".done", ".ok"),
    *(".report.json", ".report.csv"),
)
STILL_BEING_WRITTEN = timedelta(hours=1)
# Well inside functionTimeout (host.json), whatever the last call before it costs in time-outs and repeats.
BUDGET = timedelta(minutes=5)
STARTS_AT_MOST = 5
SHORTEST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=6)
LONGEST_RETRY_AFTER = timedelta(days=1)
LONGEST_LOOK = timedelta(hours=1)  # between two looks of a duplicate at the upload that sends its content
# How long nobody's fault may last before operators hear of it, and before it is theirs to set the work going again.
TOLD_AFTER, STALLED_AFTER = timedelta(hours=4), timedelta(days=7)
_READINGS = 5


class CustomerDirectory(Protocol):
    """Who may be served, as of now."""

    def current(self) -> Customers: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one call to Partner Center is repeated before the manifest is parked. Times in seconds."""

    attempts: int = 4
    timeout: float = 90.0
    wait_initial: float = 1.0
    wait_max: float = 20.0
    wait_jitter: float = 2.0
    longest_retry_after: float = 30.0

    def hook(self, error: Exception) -> bool | float:
        """What stamina asks: whether to wait, and how long where Partner Center said so."""
        if isinstance(error, NobodysFault) and error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest_retry_after else False
        return isinstance(error, NobodysFault | BatchNotFound)


@dataclass(frozen=True, slots=True)
class Intake:
    """The use case. It decides; its parts do."""

    manifests: Manifests
    customers: CustomerDirectory
    ledger: Ledger
    reports: Reports
    queues: Queues
    alerts: Alerts
    partner_center: PartnerCenter
    rules: Rules
    default_batch: str
    devices_per_request: int
    clock: Callable[[], datetime]
    patience: Patience = Patience()
    budget: timedelta = BUDGET

    def receive(self, name: str) -> None:
        """A blob has landed, or is said to have; `name` is its path in the container."""
        if is_ignored(name):
            logger.info("manifest.ignored name=%r", name)
            return
        try:
            draft = self._planned(name)
        except Fault as fault:
            logger.error("manifest.not_planned name=%r %s", name, fault)
            return  # it has no record, so each sweep brings it again
        if draft is None:
            return
        with draft:
            claim = self.ledger.begin(draft)
            if claim is None:
                logger.info("manifest.known id=%s name=%r", draft.plan.upload.id, name)
            else:
                self._go_on(claim)

    def resume(self, wake_up: str) -> None:
        """A parked manifest's time has come, or a sweep found one. `wake_up` is the text that either queued."""
        match _parsed(wake_up):
            case {"name": str(name), "key": str(key)}:
                self._bring_in(name, key)
            case {"name": str(name)}:
                self.receive(name)
            case {"key": str(key), "nonce": str(nonce)}:
                claim = self.ledger.resume(key, nonce)
                if claim is None:
                    logger.info("wake_up.stale id=%s", key[:12])
                    return
                logger.info("manifest.resumed id=%s start=%d", claim.plan.upload.id, claim.state.starts)
                self._go_on(claim)
            case _:
                logger.error("wake_up.unreadable length=%d", len(wake_up))

    def _bring_in(self, name: str, key: str) -> None:
        """A sweep found no record of it. What ended so many invocations while it was read is not read once more.

        Until such a one of many has its turn, its event may have come, or each sweep found it again.
        """
        manifest_id = key[:12]
        if not self.ledger.has(key):
            if self.ledger.count_reading(key, name) > STARTS_AT_MOST:
                self._give_up(name, manifest_id)
                return
            try:
                self.receive(name)
            except AzureError as error:
                if is_outage(error):  # it says nothing of the manifest
                    self.ledger.forget_readings(key)
                raise
        self.ledger.forget_readings(key)
        self.alerts.resolve(f"manifest-unread/{manifest_id}")

    def _give_up(self, name: str, manifest_id: str) -> None:
        advice = (
            f"{name}: {STARTS_AT_MOST} invocations ended while they read it; nothing of it was answered or sent. "
            f"Look for its name in the logs; when the cause is mended, run "
            f"python -m tools.intake resume {manifest_id}."
        )
        logger.error("manifest.given_up id=%s name=%r", manifest_id, name)
        self.alerts.raise_for(OperatorsFault("manifest-unread", advice), about=manifest_id)

    # Read, plan

    def _planned(self, name: str) -> Draft | None:
        """The plan for the blob as it is; None where there is nothing to answer (yet)."""
        for _ in range(_READINGS):
            dropped = self.manifests.open(name)
            if dropped is None:
                logger.warning("manifest.gone name=%r", name)
                return None
            if dropped.upload.size == 0 and self.clock() - dropped.upload.received < STILL_BEING_WRITTEN:
                logger.info("manifest.still_empty name=%r", name)
                return None
            try:
                return self._plan(dropped)
            except ResourceModifiedError:
                logger.info("manifest.replaced_while_read id=%s name=%r", dropped.upload.id, name)
        raise RuntimeError(f"{name} was replaced {_READINGS} times while it was read")

    def _plan(self, dropped: Dropped) -> Draft:
        upload = dropped.upload
        try:
            destination = find_destination(upload.name, dropped.metadata, self.customers.current(), self.default_batch)
        except Refused as refused:
            return plan_refusal(upload, refused.finding)
        if upload.size > self.rules.max_bytes:
            message = (
                f"The file has {upload.size:,} bytes; at most {self.rules.max_bytes:,} are taken. Send it in parts."
            )
            return plan_refusal(upload, Finding(Code.MANIFEST_TOO_LARGE, message), destination.customer_id)
        with read_manifest(dropped.chunks(), destination, self.rules) as manifest:
            draft = plan_manifest(upload, manifest, self.devices_per_request)
        plan = draft.plan
        logger.info(
            "manifest.planned id=%s name=%r customer=%s verdict=%s rows=%d devices=%d errors=%d parts=%d",
            upload.id,
            upload.name,
            plan.customer_id,
            plan.verdict,
            plan.rows,
            plan.devices,
            plan.errors,
            len(plan.parts),
        )
        return draft

    # Go on, from wherever the upload stands

    def _go_on(self, claim: Claim) -> None:
        try:
            try:
                if claim.state.starts > STARTS_AT_MOST:
                    self._stall(claim, f"It ended {STARTS_AT_MOST} invocations before they could finish.")
                else:
                    self._answer(claim)
            except AzureError as error:
                self._wait(claim, fault_of(error))
            except Fault as fault:
                self._wait(claim, fault)
        except ClaimLost:
            logger.warning("claim.lost id=%s", claim.plan.upload.id)
        except Exception:
            # The host repeats a failed invocation at once, and the next one must find the way free.
            with suppress(ClaimLost, AzureError):
                claim.release()
            raise

    def _answer(self, claim: Claim) -> None:
        plan = claim.plan
        if plan.verdict == "rejected":
            self._reject(claim)
        elif plan.verdict == "dry-run":
            self._receipt(claim, "finished")
            self._end(claim)
        elif "duplicate" in claim.outcomes and (first := self._first(claim)):
            self._duplicate(claim, first)
        else:
            self._forget_duplicate(claim)
            _, first = _side_by_side(partial(self._receipt, claim, "received"), partial(self._first, claim))
            if first:
                self._duplicate(claim, first)
            else:
                self._submit(claim)

    def _first(self, claim: Claim) -> First | None:
        """The upload that sends this content, where it is another."""
        has_sent = claim.outcomes.keys() - {"duplicate"}
        return None if has_sent else self.ledger.first_with_content(claim.plan)

    def _reject(self, claim: Claim) -> None:
        """The sender's to mend: report and rejection."""
        plan = claim.plan
        message = messages.manifest_rejected(plan, self.clock())
        outcome = claim.keep("rejected", _outcome("rejected", message))
        self._receipt(claim, "finished")
        self._tell(claim, outcome, 1)
        self._end(claim)
        logger.info(
            "manifest.rejected id=%s reason=%s errors=%d",
            plan.upload.id,
            plan.refusal.code if plan.refusal else "-",
            plan.errors,
        )

    def _duplicate(self, claim: Claim, first: First) -> None:
        """Another upload sends this content. Nothing is posted, and once that one has ended this one has too.

        Until then it looks again and again: should Partner Center refuse the first, this one is sent.
        """
        if claim.state.problem not in ("", "storage-refused"):
            claim.change(problem="")  # it asks nobody but storage: whether anything else is over, others find
        if "duplicate" not in claim.outcomes:
            self._keep_duplicate(claim, first.key)
        outcome = claim.outcomes["duplicate"]
        # Where the first was refused meanwhile, another than the message names sends it by now.
        claim.outcomes["duplicate"] = outcome.model_copy(update={"duplicate_of": first.key[:12]})
        logger.info("manifest.duplicate id=%s of=%s", claim.plan.upload.id, first.key[:12])
        if first.has_ended:
            self._receipt(claim, "finished")
            self._tell(claim, outcome, 1)
            self._end(claim)
        else:
            self._tell(claim, outcome, 1)
            self._resolve(claim)
            self._park(claim, _backoff(claim.state.waits, LONGEST_LOOK), "", None)

    def _keep_duplicate(self, claim: Claim, first: str) -> None:
        sent = [o for o in self.ledger.outcomes(first).values() if o.kind == "submitted"]
        plan = self.ledger.plan(first)
        locations = [(o.batch_id, o.location) for o in sent]
        message = messages.manifest_duplicate(claim.plan, plan, locations, self.clock())
        claim.keep("duplicate", _outcome("duplicate", message, duplicate_of=plan.upload.id))

    def _forget_duplicate(self, claim: Claim) -> None:
        """Where it was one until now, what was told of that is none of its parts."""
        if claim.outcomes.keys() == {"duplicate"} and claim.state.told:
            claim.change(told=0)
        claim.outcomes.pop("duplicate", None)

    def _submit(self, claim: Claim) -> None:
        """Request by request: send, record, tell. What the time budget leaves over goes on in another invocation."""
        end = self.clock() + self.budget
        batches = _KnownBatches(self, claim)
        for part in claim.plan.parts:
            outcome = claim.outcomes.get(_what(part))
            if outcome is None:
                if self.clock() > end:
                    self._park(claim, timedelta(0), claim.state.problem, claim.state.since)
                    return
                outcome = claim.keep(_what(part), self._send(claim, part, batches))
                claim.unheard = False
            self._tell(claim, outcome, part.number)
        some_went = any(o.kind == "submitted" for o in claim.outcomes.values())
        self._report(claim, "submitted" if some_went else "finished")
        self._end(claim)

    def _send(self, claim: Claim, part: Part, batches: _KnownBatches) -> Outcome:
        """One request, as a creation or an append; its outcome is final."""
        plan, upload = claim.plan, claim.plan.upload
        devices = claim.read(part)
        if sha256(devices).hexdigest() != part.digest:
            raise RuntimeError(f"part {part.number} of {upload.id} is not what was planned")
        try:
            batch_id, accepted = self._post(claim, part, devices, batches)
        except RequestRefused as refused:
            code = Code.CUSTOMER_NOT_FOUND if isinstance(refused, CustomerNotFound) else Code.REFUSED_BY_PARTNER_CENTER
            batch_id = batches.spelt(part.batch_id)
            message = messages.upload_refused(plan, part, batch_id, refused, code, self.clock())
            logger.warning("batch.refused id=%s part=%d %s", upload.id, part.number, refused)
            return _outcome("refused", message, batch_id=batch_id, reason=str(code), detail=str(refused))
        logger.info(
            "batch.submitted id=%s part=%d batch=%s request_id=%s location=%s",
            upload.id,
            part.number,
            batch_id,
            accepted.request_id,
            accepted.location,
        )
        message = messages.upload_submitted(plan, part, batch_id, accepted, self.clock())
        return _outcome("submitted", message, batch_id=batch_id, location=accepted.location)

    def _post(self, claim: Claim, part: Part, devices: bytes, batches: _KnownBatches) -> tuple[str, Accepted]:
        customer_id = claim.plan.customer_id or ""
        existing = batches.find(part.batch_id)
        claim.unheard = True
        if existing is None:
            try:
                accepted = self._patiently(
                    claim,
                    lambda: self.partner_center.create_batch(
                        customer_id, part.batch_id, devices, part.create_request_id
                    ),
                )
            except BatchExists:
                existing = batches.find_anew(part.batch_id)
            else:
                batches.add(part.batch_id)
                return part.batch_id, accepted
        try:
            return existing, self._patiently(
                claim,
                lambda: self.partner_center.add_devices(customer_id, existing, devices, part.append_request_id),
            )
        except BatchNotFound as error:
            raise NobodysFault(f"The batch is not there yet: {error}") from error

    def _patiently[T](self, claim: Claim, call: Callable[[], T]) -> T:
        """`call`, repeated for a while where nobody is to blame, and for as long as the claim stands."""
        p = self.patience
        for attempt in stamina.retry_context(
            on=p.hook,
            attempts=p.attempts,
            timeout=p.timeout,
            wait_initial=p.wait_initial,
            wait_max=p.wait_max,
            wait_jitter=p.wait_jitter,
        ):
            with attempt:
                claim.renew(self.clock())
                return call()
        raise AssertionError("stamina ends by raising")

    # Tell

    def _tell(self, claim: Claim, outcome: Outcome, count: int) -> None:
        if claim.state.told < count:
            self.queues.send(outcome.message)
            self._resolve(claim)
            claim.told(count, self.clock())

    def _end(self, claim: Claim) -> None:
        self._resolve(claim)
        claim.done()

    def _resolve(self, claim: Claim) -> None:
        """What this manifest waited for is over: take the alert back, and wake all others that wait for the same.

        Whoever finds it taken back already wakes nobody: each would wake all that are left.
        """
        problem = claim.state.problem
        if not problem or not self.alerts.resolve(problem):
            return
        logger.info("problem.resolved id=%s problem=%s", claim.plan.upload.id, problem)
        for key, state in self.ledger.states():
            if state.problem == problem and state.nonce and not state.stalled:
                self.queues.wake(key, state.nonce)

    def _receipt(self, claim: Claim, state: State) -> None:
        """The supplier's answer to the file itself: report, rows, and the rows to correct."""
        plan = claim.plan
        rows = (
            partial(self.reports.write, own_name(plan.upload, kind), claim.open(section), section.length)
            for section, kind in ((plan.report_csv, "report.csv"), (plan.resend_csv, "resend.csv"))
            if section is not None
        )
        _side_by_side(*rows, *self._reports(claim, state))

    def _report(self, claim: Claim, state: State) -> None:
        _side_by_side(*self._reports(claim, state))

    def _reports(self, claim: Claim, state: State) -> tuple[Callable[[], None], Callable[[], None]]:
        claim.renew(self.clock())  # whoever was stopped for long must not write over a later report
        plan, upload = claim.plan, claim.plan.upload
        duplicate = claim.outcomes.get("duplicate")
        locations: dict[str, list[str | None]] = {}
        for part in plan.parts:
            outcome = claim.outcomes.get(_what(part))
            if outcome and outcome.kind == "submitted":
                locations.setdefault(part.batch_id, []).append(outcome.location)
        data = report_json(
            plan,
            state,
            self.clock(),
            locations=locations,
            refused=list(_refusals(claim)),
            duplicate_of=duplicate.duplicate_of if duplicate else None,
        )
        return (
            partial(self.reports.write, own_name(upload, "report.json"), data),
            partial(self.reports.write_latest, latest_name(upload), data, upload),
        )

    # Wait

    def _wait(self, claim: Claim, fault: Fault) -> None:
        """Tell whom it concerns, and let the work wait: for the operator, or for a while."""
        if isinstance(fault, OperatorsFault):
            self._wait_for_operator(claim, fault)
            return
        now, upload = self.clock(), claim.plan.upload
        since, problem = claim.state.since or now, claim.state.problem
        if problem and not self.alerts.find(problem):
            since, problem = now, ""  # another got through, and took it back: from here on the four hours are anew
        if now - since >= STALLED_AFTER:
            self._stall(claim, f"It waited since {since:%Y-%m-%d %H:%M} UTC. {fault}.")
            return
        if now - since >= TOLD_AFTER and not problem:
            advice = f"Work waits for more than four hours, and is still tried again. {fault}."
            problem = self._alert(claim, OperatorsFault("service-unavailable", advice))
        longest = LONGEST_WAIT if problem else TOLD_AFTER - (now - since)
        wait = _backoff(claim.state.waits, longest, getattr(fault, "retry_after", None))
        logger.warning("manifest.waits id=%s seconds=%d %s", upload.id, wait.total_seconds(), fault)
        self._park(claim, wait, problem, since)

    def _wait_for_operator(self, claim: Claim, fault: OperatorsFault) -> None:
        logger.error("manifest.waits_for_operator id=%s problem=%s", claim.plan.upload.id, fault.problem)
        about = claim.plan.customer_id if fault.of_customer else None
        problem = self._alert(claim, fault, about or "")
        # Where nobody could be told, it goes on trying, and tells then.
        self._park(claim, None if problem else SHORTEST_WAIT, problem, None)

    def _alert(self, claim: Claim, fault: OperatorsFault, about: str = "") -> str:
        """Tell the operators; returns the problem's id, or nothing where storage refuses even that."""
        try:
            return self.alerts.raise_for(fault, waiting=[claim.plan], about=about)
        except AzureError as error:
            logger.error("alert.not_sent id=%s problem=%s %s", claim.plan.upload.id, fault.problem, fault_of(error))
            return ""

    def _park(self, claim: Claim, wait: timedelta | None, problem: str, since: datetime | None) -> None:
        """Let the work wait, for the problem's end where no time is given; the sender learns no more than `waiting`."""
        with suppress(AzureError):  # it is parked all the same
            self._report(claim, "waiting")
        nonce = claim.park(None if wait is None else self.clock() + wait, problem, since)
        if wait is not None:
            self.queues.wake(claim.key, nonce, wait)

    def _stall(self, claim: Claim, why: str) -> None:
        """A person must look before it goes on."""
        upload = claim.plan.upload
        advice = (
            f"{upload.name}: {why} Look for {upload.id} in the logs; when the cause is mended, run "
            f"python -m tools.intake resume {upload.id}."
        )
        logger.error("manifest.stalled id=%s name=%r", upload.id, upload.name)
        problem = self._alert(claim, OperatorsFault("manifest-stalled", advice), upload.id)
        if not problem:
            # Where nobody could be told, nobody would set it going again.
            self._park(claim, SHORTEST_WAIT, claim.state.problem, claim.state.since)
            return
        claim.stall(problem)
        with suppress(AzureError):
            self._report(claim, "waiting")


class _KnownBatches:
    """The batches a customer has, as far as this upload knows."""

    def __init__(self, intake: Intake, claim: Claim) -> None:
        self._intake = intake
        self._claim = claim
        self._customer_id = claim.plan.customer_id or ""
        submitted = (o.batch_id for o in claim.outcomes.values() if o.kind == "submitted")
        self._spelling = {batch_id.casefold(): batch_id for batch_id in submitted}
        # A creation may have been carried out unheard. The list cannot tell whether the batch it shows is that one's:
        # so a batch's open first request is repeated as a creation, with its own id.
        self._listed = claim.unheard
        self._refusal: RequestRefused | None = None

    def find(self, batch_id: str) -> str | None:
        """The batch as Partner Center spells it; None where it is to be created."""
        if not self._listed:
            self._load()
        return self._spelling.get(batch_id.casefold())

    def find_anew(self, batch_id: str) -> str:
        """The same, for a batch that is known to exist by now."""
        self._load()
        return self._spelling.setdefault(batch_id.casefold(), batch_id)

    def spelt(self, batch_id: str) -> str:
        """As Partner Center spells it, where that is known."""
        return self._spelling.get(batch_id.casefold(), batch_id)

    def add(self, batch_id: str) -> None:
        self._spelling[batch_id.casefold()] = batch_id

    def _load(self) -> None:
        if self._refusal:
            raise self._refusal
        intake = self._intake
        try:
            found = intake._patiently(self._claim, lambda: intake.partner_center.batches(self._customer_id))
        except RequestRefused as refused:
            self._refusal = refused
            raise
        self._spelling |= found
        self._listed = True


def _side_by_side[T](*calls: Callable[[], T]) -> list[T]:
    """What the calls return, made at the same time. All have ended when the first that failed raises."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [f.result() for f in [pool.submit(call) for call in calls]]


def _backoff(waits: int, longest: timedelta, retry_after: float | None = None) -> timedelta:
    """Twice as long each time; never shorter than the other side asked."""
    doubled = min(SHORTEST_WAIT * (1 << min(waits, 16)), max(longest, SHORTEST_WAIT))
    return max(doubled, min(timedelta(seconds=retry_after or 0), LONGEST_RETRY_AFTER))


def is_ignored(name: str) -> bool:
    """Whether a blob of this name is no manifest and gets no answer."""
    file = PurePosixPath(name).name.casefold()
    return file.startswith((".", "~$")) or file.endswith(_NOT_A_MANIFEST) or file == "thumbs.db"


def _parsed(wake_up: str) -> object:
    try:
        return json.loads(wake_up)
    except ValueError:
        return None


def _what(part: Part) -> str:
    return f"{part.number:05d}"


def _outcome(kind: str, message: Message, **details: str | None) -> Outcome:
    return Outcome.model_validate({"kind": kind, "channel": message.channel, "text": message.text} | details)


def _refusals(claim: Claim) -> Iterator[Finding]:
    for part in claim.plan.parts:
        outcome = claim.outcomes.get(_what(part))
        if outcome and outcome.kind == "refused":
            rows = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in part.rows[:20])
            message = f"Partner Center refused the request with rows {rows}: {outcome.detail}"
            yield Finding(Code(outcome.reason), message, part.rows[0][0])
