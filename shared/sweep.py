"""Finds what no event brought, and what stopped without a holder, and queues it to be gone on with.

Some uploads raise no event at all: SFTP renames into place, files dropped before the subscription was made, events that
were lost or dead-lettered. Some invocations die without another delivery. One listing of the ledger beside one of the
manifests finds both; there are no markers that could be wrong.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from azure.core.exceptions import AzureError

from shared.alerts import Alerts
from shared.faults import OperatorsFault
from shared.intake import STILL_BEING_WRITTEN, is_ignored
from shared.ledger import Ledger, State
from shared.plan import Plan, Upload
from shared.storage import Manifests, Queues, fault_of

logger = logging.getLogger(__name__)

# What is younger has its event or its wake-up still under way.
GRACE = timedelta(minutes=2)
# A manifest tells of its problem before it is parked for it, so that for a moment nobody waits for a new one.
NOBODY_WAITS = timedelta(minutes=15)
WAITING_NAMED = 50  # in an alert that is said again


@dataclass(frozen=True, slots=True)
class Sweep:
    """The use case; it decides what is due, and leaves the rest to the queue."""

    manifests: Manifests
    ledger: Ledger
    queues: Queues
    alerts: Alerts
    clock: Callable[[], datetime]
    checks: Sequence[Callable[[], object]] = ()  # of problems that are no manifest's

    def run(self) -> None:
        """Queue all that is due. A wake-up that is one too many is found stale, or finds the manifest held."""
        now = self.clock()
        known, left = set[bytes](), 0
        waiting = defaultdict[str, list[tuple[str, State]]](list)
        for key, state in self.ledger.states():
            known.add(bytes.fromhex(key))
            if state.problem and not state.done:
                waiting[state.problem].append((key, state))
            if state.is_left_alone(now) and _is_overdue(state, now):
                self.queues.wake(key, state.nonce)
                left += 1
        unseen = self._announce(known, now)
        self._look_after(waiting, now)
        for check in self.checks:
            check()
        logger.info("sweep.done known=%d left=%d unseen=%d problems=%d", len(known), left, unseen, len(waiting))

    def _announce(self, known: set[bytes], now: datetime) -> int:
        """Queue the manifests that no record is of. Where they cannot be listed, what has a record is seen to."""
        unseen = 0
        try:
            for upload in self.manifests.list():
                if bytes.fromhex(upload.key) not in known and _is_due(upload, now):
                    self.queues.announce(upload.name, upload.key)
                    unseen += 1
            self.alerts.resolve("manifests-unreadable")
        except AzureError as error:
            fault = fault_of(error)
            logger.error("manifests.not_listed %s", fault)
            if isinstance(fault, OperatorsFault):
                advice = f"What suppliers drop into MANIFEST_CONTAINER is not read, and gets no answer. {fault.advice}"
                self.alerts.raise_for(OperatorsFault("manifests-unreadable", advice))
        return unseen

    def _look_after(self, waiting: Mapping[str, list[tuple[str, State]]], now: datetime) -> None:
        """One manifest asks for all whether a problem is over; operators are reminded; where it is over, all go on."""
        problems = self.alerts.open()
        for problem, those in waiting.items():
            idle = [(state.waits, key, state.nonce) for key, state in those if state.waits_for_operator]
            for _, key, nonce in sorted(idle)[: 1 if problem in problems else None]:
                self.queues.wake(key, nonce)
        for problem, known in problems.items():
            keys = [key for key, _ in waiting.get(problem, [])]
            code, _, about = problem.partition("/")
            if not keys and known.is_of_manifest and now - known.since > NOBODY_WAITS:
                self.alerts.resolve(problem)
            elif code == "manifest-unread" and any(self.ledger.entries(about)):
                self.alerts.resolve(problem)  # an event brought it in after all
            else:
                some = partial(self._plans, keys[:WAITING_NAMED])
                self.alerts.remind(problem, known, some, len(keys))

    def _plans(self, keys: Sequence[str]) -> list[Plan]:
        return [self.ledger.plan(key) for key in keys]


def _is_overdue(state: State, now: datetime) -> bool:
    """Whether its wake-up should have come by now; what a dead holder left has none."""
    return state.due is None or now - state.due > GRACE


def _is_due(upload: Upload, now: datetime) -> bool:
    age = now - upload.received
    return not is_ignored(upload.name) and age > (GRACE if upload.size else STILL_BEING_WRITTEN)
