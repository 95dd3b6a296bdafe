"""What operators are woken for: one alert a problem, said again each day that it lasts."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

from shared.faults import OperatorsFault
from shared.messages import action_needed
from shared.plan import Plan
from shared.storage import Queues, only_over

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

_SAID_AGAIN_AFTER = timedelta(days=1)


class Alerts:
    """`problems/{code}` in the ledger's container remembers what was said, and when."""

    def __init__(self, container: ContainerClient, queues: Queues) -> None:
        self._container = container
        self._queues = queues

    def raise_for(self, fault: OperatorsFault, plan: Plan, now: datetime, *, about: str = "") -> None:
        """Tell the operators, unless they were told within a day. `about`: what of, where each is a matter of its own.

        The message goes first: dying before it is remembered tells them twice, which is better than never.
        """
        blob = self._container.get_blob_client("/".join(filter(None, ("problems", fault.problem, about))))
        message = action_needed(fault.problem, fault.advice, plan, now)
        etag = None
        with suppress(ResourceNotFoundError):
            found = blob.get_blob_properties()
            if now - found.last_modified < _SAID_AGAIN_AFTER:
                return
            etag = found.etag
        self._queues.send(message)
        # Where somebody else wrote it meanwhile, another instance met the same problem at the same time.
        with suppress(ResourceExistsError, ResourceModifiedError):
            blob.upload_blob(message.text.encode(), **only_over(etag))
