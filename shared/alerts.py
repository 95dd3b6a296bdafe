"""What operators are told: one alert a problem, said again each day that it lasts, and taken back when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

from shared.faults import OperatorsFault
from shared.messages import Problem, action_needed, action_resolved
from shared.plan import Plan
from shared.storage import Queues, address_of

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

_FOLDER = "problems/"
_SAID_AGAIN_AFTER = timedelta(days=1)
# Whoever found the problem first is still about to tell of it; after that he is taken for dead.
_ABOUT_TO_BE_SAID = timedelta(minutes=5)
# Their advice names one thing to mend. When that is done and another is found, the alert that stands is no help.
_OF_ONE_THING = {"settings-wrong", "customers-unreadable", "secret-missing", "authority-unknown"}


@dataclass(frozen=True, slots=True)
class OpenProblem:
    """A problem that lasts. `turn`: when somebody last took it on himself to tell of it; `told`: when he had."""

    since: datetime
    turn: str
    told: datetime | None
    is_of_manifest: bool
    etag: str

    def is_to_be_said(self, now: datetime) -> bool:
        taken = datetime.fromisoformat(self.turn.split()[0])
        if self.told is None or self.told < taken:
            return now - taken > _ABOUT_TO_BE_SAID
        return now - self.told > _SAID_AGAIN_AFTER


class Alerts:
    """`problems/{code}[/about]` in the ledger's container stands for as long as the problem does.

    Its text is what to say, its metadata since when, and when it was said. One turn is taken before each message, so
    that many manifests with one problem, on many instances, make one alert; whoever dies in his turn loses it.
    """

    def __init__(self, container: ContainerClient, queues: Queues, clock: Callable[[], datetime]) -> None:
        self._container = container
        self._queues = queues
        self._clock = clock

    def raise_for(self, fault: OperatorsFault, *, waiting: Sequence[Plan] = (), about: str = "") -> str:
        """Tell the operators, unless they know; returns the problem's id. `about`: of whom, where that matters."""
        now = self._clock()
        problem = Problem(fault.problem, about, fault.severity, fault.advice, now)
        blob = self._blob(problem.id)
        metadata = {"since": now.isoformat(), "turn": _turn(now), "manifest": "1" if waiting else ""}
        try:
            blob.upload_blob(problem.as_json(), metadata=metadata, overwrite=False)
        except ResourceExistsError:
            if blob.get_blob_properties().metadata.get("turn") != metadata["turn"]:
                said = self.find(problem.id) if problem.code in _OF_ONE_THING else None
                if said is None or said.advice == problem.advice:
                    return problem.id
                self.resolve(problem.id)
                return self.raise_for(fault, waiting=waiting, about=about)
        self._say(problem, waiting, len(waiting), metadata)
        return problem.id

    def open(self) -> dict[str, OpenProblem]:
        """All problems that last, by id, in one listing."""
        found = {}
        for blob in self._container.list_blobs(name_starts_with=_FOLDER, include=["metadata"]):
            data = blob.metadata or {}
            if "turn" not in data:
                continue  # a folder, of which an account with a hierarchical namespace makes blobs, or not ours
            found[blob.name.removeprefix(_FOLDER)] = OpenProblem(
                since=datetime.fromisoformat(data["since"]),
                turn=data["turn"],
                told=datetime.fromisoformat(data["told"]) if data.get("told") else None,
                is_of_manifest=bool(data.get("manifest")),
                etag=blob.etag,
            )
        return found

    def remind(self, problem_id: str, known: OpenProblem, waiting: Callable[[], Sequence[Plan]], count: int) -> None:
        """Say it again, if it is time to, and nobody else is about to."""
        now = self._clock()
        if not known.is_to_be_said(now):
            return
        blob = self._blob(problem_id)
        metadata = {
            "since": known.since.isoformat(),
            "turn": _turn(now),
            "manifest": "1" if known.is_of_manifest else "",
        }
        with suppress(ResourceModifiedError, ResourceNotFoundError):
            blob.set_blob_metadata(metadata, etag=known.etag, match_condition=MatchConditions.IfNotModified)
            problem = Problem.from_json(blob.download_blob().readall())
            self._say(problem, waiting(), count, metadata)

    def resolve(self, problem_id: str) -> bool:
        """Take the alert back; False where there is none (any more)."""
        problem = self.find(problem_id)
        if problem is None:
            return False
        self._queues.send(action_resolved(problem, self._url(problem_id), self._clock()))
        with suppress(ResourceNotFoundError):
            self._blob(problem_id).delete_blob()
        return True

    def find(self, problem_id: str) -> Problem | None:
        """What operators were told of a problem; None where it is over."""
        try:
            return Problem.from_json(self._blob(problem_id).download_blob().readall())
        except ResourceNotFoundError:
            return None

    def _say(self, problem: Problem, waiting: Sequence[Plan], count: int, metadata: Mapping[str, str]) -> None:
        now = self._clock()
        self._queues.send(action_needed(problem, self._url(problem.id), waiting, count, now))
        with suppress(ResourceNotFoundError):  # somebody found it over meanwhile
            self._blob(problem.id).set_blob_metadata({**metadata, "told": now.isoformat()})

    def _blob(self, problem_id: str) -> BlobClient:
        return self._container.get_blob_client(f"{_FOLDER}{problem_id}")

    def _url(self, problem_id: str) -> str:
        return f"{address_of(self._container)}/{_FOLDER}{problem_id}"


def _turn(now: datetime) -> str:
    return f"{now.isoformat()} {uuid4()}"
