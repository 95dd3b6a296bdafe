"""Finds what no event brought, and what stopped without a holder, and queues it to be gone on with.

Some uploads raise no event at all: SFTP renames into place, files dropped before the subscription was made, events that
were lost or dead-lettered. Some invocations die without another delivery. One listing of the ledger beside one of the
manifests finds both; there are no markers that could be wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.intake import STILL_BEING_WRITTEN, is_ignored
from shared.ledger import Ledger, State
from shared.plan import Upload
from shared.storage import Manifests, Queues

logger = logging.getLogger(__name__)

# What is younger has its event or its wake-up still under way.
GRACE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Sweep:
    """The use case; it decides what is due, and leaves the rest to the queue."""

    manifests: Manifests
    ledger: Ledger
    queues: Queues
    clock: Callable[[], datetime]

    def run(self) -> None:
        """Queue all that is due. A wake-up that is one too many is found stale, or finds the manifest held."""
        now = self.clock()
        known, left, unseen = set[bytes](), 0, 0
        for key, state in self.ledger.states():
            known.add(bytes.fromhex(key))
            if state.is_left_alone(now) and _is_overdue(state, now):
                self.queues.wake(key, state.nonce)
                left += 1
        for upload in self.manifests.list():
            if bytes.fromhex(upload.key) not in known and _is_due(upload, now):
                self.queues.announce(upload.name)
                unseen += 1
        logger.info("sweep.done known=%d left=%d unseen=%d", len(known), left, unseen)


def _is_overdue(state: State, now: datetime) -> bool:
    since = max((t for t in (state.due, state.until) if t), default=None)
    return since is None or now - since > GRACE


def _is_due(upload: Upload, now: datetime) -> bool:
    age = now - upload.received
    return not is_ignored(upload.name) and age > (GRACE if upload.size else STILL_BEING_WRITTEN)
