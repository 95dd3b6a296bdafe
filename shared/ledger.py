"""What is planned, sent and told, so that a crash or a second delivery never sends twice (docs/ledger.md).

    uploads/{key}            the plan and its sections, never rewritten; its metadata is the state, its ETag the fence
    content/{content key}    the key of the upload that sent this content
    sends/{key}/{what}       how one request, or the upload as a whole, ended, with the text of the message
    readings/{key}           how often a sweep had a blob read without a plan coming of it

Blobs are created if absent. The storage client repeats a call whose answer was lost, and is then told that a
stranger was first: so after each such answer this module looks who it was before it believes it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Buffer, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Protocol, Self
from uuid import uuid4

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from pydantic import BaseModel, ConfigDict

from shared.messages import Channel, Message
from shared.plan import Plan, Section
from shared.planning import Draft
from shared.storage import only_over

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, ContainerClient

logger = logging.getLogger(__name__)

CONTAINER = "intake-ledger"
# With the interval of a sweep this must stay under the 15 minutes that suppliers are promised.
TERM = timedelta(minutes=4)
_FIRST_READ = 256 * 1024
_SHORT_READ = 16 * 1024  # where many are looked at
_LONGEST_PLAN = 64 * 1024 * 1024
_PIECE = 4 * 1024 * 1024

type Clock = Callable[[], datetime]


class ClaimLost(Exception):
    """Somebody else goes on with this upload."""


class Outcome(BaseModel):
    """How one request (`what` is its number) or the upload as a whole ended, and the message that says so."""

    model_config = ConfigDict(frozen=True)

    kind: str
    batch_id: str = ""
    location: str | None = None
    reason: str = ""
    detail: str = ""
    duplicate_of: str = ""
    channel: Channel
    text: str

    @property
    def message(self) -> Message:
        return Message(self.channel, self.text)


@dataclass(frozen=True, slots=True)
class State:
    """An upload's metadata.

    `told` counts the outcomes whose messages were sent, in the order of the parts; `starts` the times that somebody
    took hold of it since it was last let go in good order; `waits` the times it was parked, and `since` when first,
    without progress between. `problem` is what operators were told of; without `due` it waits until that is over.
    `unheard`: it was let go with a request whose answer did not come, and which may have been carried out.
    """

    holder: str = ""
    until: datetime | None = None
    starts: int = 0
    waits: int = 0
    told: int = 0
    done: bool = False
    due: datetime | None = None
    nonce: str = ""
    problem: str = ""
    since: datetime | None = None
    stalled: bool = False
    unheard: bool = False

    def as_metadata(self) -> dict[str, str]:
        values = {
            "holder": self.holder,
            "until": self.until.isoformat() if self.until else "",
            "starts": str(self.starts),
            "waits": str(self.waits),
            "told": str(self.told),
            "done": "1" if self.done else "",
            "due": self.due.isoformat() if self.due else "",
            "nonce": self.nonce,
            "problem": self.problem,
            "since": self.since.isoformat() if self.since else "",
            "stalled": "1" if self.stalled else "",
            "unheard": "1" if self.unheard else "",
        }
        return {name: value for name, value in values.items() if value}

    @classmethod
    def of(cls, metadata: dict[str, str]) -> Self:
        until, due, since = (metadata.get(name) for name in ("until", "due", "since"))
        return cls(
            holder=metadata.get("holder", ""),
            until=datetime.fromisoformat(until) if until else None,
            starts=int(metadata.get("starts") or 0),
            waits=int(metadata.get("waits") or 0),
            told=int(metadata.get("told") or 0),
            done=bool(metadata.get("done")),
            due=datetime.fromisoformat(due) if due else None,
            nonce=metadata.get("nonce", ""),
            problem=metadata.get("problem", ""),
            since=datetime.fromisoformat(since) if since else None,
            stalled=bool(metadata.get("stalled")),
            unheard=bool(metadata.get("unheard")),
        )

    def is_left_alone(self, now: datetime) -> bool:
        """Whether nobody holds it, nobody will be woken for it, and there is still something to do."""
        return not (self.done or self.stalled or self.is_held(now) or self.is_waiting(now))

    def is_held(self, now: datetime) -> bool:
        return bool(self.holder and self.until and now < self.until)

    def is_waiting(self, now: datetime) -> bool:
        return self.waits_for_operator or bool(self.due and now < self.due)

    @property
    def may_be_unheard(self) -> bool:
        """Whether a request may have been carried out whose answer is not here; a holder may have died over one."""
        return self.unheard or bool(self.holder)

    @property
    def waits_for_operator(self) -> bool:
        """Whether it waits until its problem is over, without a wake-up of its own."""
        return bool(self.problem and not self.due and not self.holder and not self.stalled and not self.done)


class Sections(Protocol):
    """Where the bytes of a record's sections are read from."""

    def read(self, section: Section) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing tells of a record. `written`: when it was planned; `changed`: its state, for the last time."""

    key: str
    state: State
    written: datetime
    changed: datetime


@dataclass(frozen=True, slots=True)
class First:
    """The upload by which a content goes, where another has the same."""

    key: str
    has_ended: bool


@dataclass(frozen=True, slots=True)
class Record:
    """A record to be looked at."""

    plan: Plan
    state: State
    sections: Sections

    def open(self, section: Section) -> IO[bytes]:
        return io.BufferedReader(_Stream(self.sections, section), _PIECE)


class Ledger:
    """The records of all uploads, in one container."""

    def __init__(self, container: ContainerClient, clock: Clock) -> None:
        self._container = container
        self._clock = clock

    def begin(self, draft: Draft) -> Claim | None:
        """Write the plan and claim it, in one write. A record that stands already is taken over where nobody holds it.

        None where there is nothing to do: all is told, somebody holds it, or its wake-up is still to come.
        """
        state = State(holder=str(uuid4()), until=self._clock() + TERM, starts=1)
        etag = self._write(draft.plan, draft, draft.whole, state)
        if etag is None:
            return self._take_over(draft.plan.upload.key)
        return Claim(self, draft.plan, self._upload(draft.plan.upload.key), state, etag, draft)

    def _write(self, plan: Plan, sections: Sections, whole: Section, state: State) -> str | None:
        """A new record's ETag; None where there is one already."""
        blob = self._upload(plan.upload.key)
        header = plan.model_dump_json(exclude_defaults=True).encode() + b"\n"
        try:
            written = blob.upload_blob(
                io.BufferedReader(_Stream(sections, whole, header), _PIECE),
                length=len(header) + whole.length,
                metadata=state.as_metadata(),
                overwrite=False,
            )
        except ResourceExistsError:
            found = blob.get_blob_properties()
            there = State.of(found.metadata)
            return str(found.etag) if (there.holder, there.nonce) == (state.holder, state.nonce) else None
        return str(written["etag"])

    def resume(self, key: str, nonce: str) -> Claim | None:
        """Take over a parked upload. None where the wake-up with this nonce is no longer the one that counts."""
        return self._take_over(key, nonce)

    def states(self) -> Iterator[tuple[str, State]]:
        """Every upload's key and state, in one listing."""
        for entry in self.entries():
            yield entry.key, entry.state

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every record whose key begins so, in one listing. What is none, or damaged, keeps nobody from the others."""
        for blob in self._container.list_blobs(name_starts_with=f"uploads/{prefix}", include=["metadata"]):
            key = blob.name.removeprefix("uploads/")
            try:
                bytes.fromhex(key)
                state = State.of(blob.metadata or {})
            except ValueError:
                logger.error("record.unreadable name=%r", blob.name)
            else:
                yield Entry(key, state, blob.creation_time, blob.last_modified)

    def look(self, key: str) -> Record:
        """A record as it is, without a claim to it."""
        blob = self._upload(key)
        plan, offset, state, _ = _read_plan(blob, _SHORT_READ)
        return Record(plan, state, _Remote(blob, offset))

    def set_going(self, key: str) -> State | None:
        """Have a record gone on with now, wherever it stands, as if it had never waited; the wake-up is the caller's.

        None where somebody holds it or nothing is left to do. The problem that it names stays: progress ends it.
        """
        blob = self._upload(key)
        for _ in range(5):
            found = blob.get_blob_properties()
            state, now = State.of(found.metadata), self._clock()
            if state.done or state.is_held(now):
                return None
            going = State(
                told=state.told, problem=state.problem, due=now, nonce=str(uuid4()), unheard=state.may_be_unheard
            )
            try:
                blob.set_blob_metadata(
                    going.as_metadata(), etag=found.etag, match_condition=MatchConditions.IfNotModified
                )
            except ResourceModifiedError:
                if State.of(blob.get_blob_properties().metadata) != going:
                    continue  # somebody was quicker: look again
            return going
        raise RuntimeError(f"the record {key[:12]} keeps changing")

    def add_again(self, record: Record, plan: Plan) -> State | None:
        """A record of its own for `plan`, on the sections of another, due now; the wake-up is the caller's.

        None where there is such a record already.
        """
        state = State(due=self._clock(), nonce=str(uuid4()))
        return state if self._write(plan, record.sections, plan.sections, state) else None

    def has(self, key: str) -> bool:
        return self._upload(key).exists()

    def plan(self, key: str) -> Plan:
        return _read_plan(self._upload(key))[0]

    def state(self, key: str) -> State:
        return State.of(self._upload(key).get_blob_properties().metadata)

    def outcomes(self, key: str) -> dict[str, Outcome]:
        """Every outcome of an upload so far, by what it is of, parts in their order."""
        prefix = f"sends/{key}/"
        names = sorted(b.name for b in self._container.list_blobs(name_starts_with=prefix))
        return {name.removeprefix(prefix): self._outcome(name) for name in names}

    def _take_over(self, key: str, nonce: str | None = None) -> Claim | None:
        blob = self._upload(key)
        plan, offset, state, etag = _read_plan(blob)
        now = self._clock()
        # A wake-up that counts is not early, even if this machine's clock says so.
        is_due = not state.is_waiting(now) if nonce is None else state.nonce == nonce
        if state.done or state.stalled or state.is_held(now) or not is_due:
            return None
        claim = Claim(self, plan, blob, state, etag, _Remote(blob, offset))
        claim.unheard = state.may_be_unheard
        try:
            claim.change(holder=str(uuid4()), until=now + TERM, starts=state.starts + 1, due=None, nonce="")
        except ClaimLost:
            return None
        claim.outcomes = self.outcomes(key)
        return claim

    def _upload(self, key: str) -> BlobClient:
        return self._container.get_blob_client(f"uploads/{key}")

    def _outcome(self, name: str) -> Outcome:
        return Outcome.model_validate_json(self._container.download_blob(name).readall())

    def keep(self, key: str, what: str, outcome: Outcome) -> Outcome:
        """Keep an outcome if there is none, and return the one that stands."""
        name = f"sends/{key}/{what}"
        try:
            self._container.upload_blob(name, outcome.model_dump_json().encode(), overwrite=False)
        except ResourceExistsError:
            return self._outcome(name)
        return outcome

    def count_reading(self, key: str, name: str) -> int:
        """How often by now, this time included, the blob `name` was read without a plan coming of it."""
        blob = self._container.get_blob_client(f"readings/{key}")
        count = 1
        with suppress(ResourceNotFoundError):
            count += int(blob.get_blob_properties().metadata["count"])
        blob.upload_blob(name.encode(), metadata={"count": str(count)}, overwrite=True)
        return count

    def forget_readings(self, key: str) -> None:
        with suppress(ResourceNotFoundError):
            self._container.delete_blob(f"readings/{key}")

    def unread(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Key and name of each blob that was read in vain, and whose key begins so."""
        for blob in self._container.list_blobs(name_starts_with=f"readings/{prefix}"):
            key = blob.name.removeprefix("readings/")
            if not any(self.entries(key)):  # the last reading may have ended behind its plan
                yield key, self._container.download_blob(blob.name).readall().decode()

    def first_with_content(self, plan: Plan) -> First | None:
        """The upload that has sent, or is sending, the same content; None where this one is to send it.

        A first upload that Partner Center refused a request of does not count: its content may be sent anew.
        """
        content = plan.content_key
        if content is None:
            return None
        blob = self._container.get_blob_client(f"content/{content}")
        mine = plan.upload.key
        for _ in range(5):
            try:
                blob.upload_blob(mine.encode(), overwrite=False)
                return None
            except ResourceExistsError:
                found = blob.download_blob()
                key = found.readall().decode()
            if key == mine:
                return None
            first = self._first(key)
            if first and not plan.upload.resubmit and not (first.has_ended and self._was_refused(key)):
                return first
            try:
                blob.upload_blob(mine.encode(), **only_over(found.properties.etag))
                return None
            except ResourceModifiedError:
                continue  # somebody else replaced it just now, or our own first try did: look again
        raise RuntimeError(f"content/{content} keeps changing")

    def _first(self, key: str) -> First | None:
        """Looked at before its outcomes: one that has ended has all of them. None where its record was cleared away."""
        with suppress(ResourceNotFoundError):
            return First(key, self.state(key).done)
        return None

    def _was_refused(self, key: str) -> bool:
        sent = [o for o in self.outcomes(key).values() if o.kind == "submitted"]
        return len(sent) < len(self.plan(key).parts)


class Claim:
    """The right to go on with one upload, for a while. A change of state raises ClaimLost if it has gone to another."""

    def __init__(
        self,
        ledger: Ledger,
        plan: Plan,
        blob: BlobClient,
        state: State,
        etag: str,
        sections: Sections,
    ) -> None:
        self.plan = plan
        self.unheard = False  # a request left, then or earlier, whose answer is not kept
        self.key = plan.upload.key
        self.state = state
        self.outcomes: dict[str, Outcome] = {}
        self._ledger = ledger
        self._blob = blob
        self._etag = etag
        self._sections = sections

    def read(self, section: Section) -> bytes:
        """A section's bytes, as they were planned."""
        return self._sections.read(section)

    def open(self, section: Section) -> IO[bytes]:
        """A section as a stream, for one that may be long."""
        return io.BufferedReader(_Stream(self._sections, section), _PIECE)

    def keep(self, what: str, outcome: Outcome) -> Outcome:
        """Keep an outcome. It needs no claim: an answer that came must not be lost because the claim was."""
        self.outcomes[what] = self._ledger.keep(self.key, what, outcome)
        return self.outcomes[what]

    def change(self, **changes: object) -> None:
        """Change the state, if the claim still stands."""
        state = replace(self.state, **changes)  # type: ignore[arg-type]
        try:
            written = self._blob.set_blob_metadata(
                state.as_metadata(), etag=self._etag, match_condition=MatchConditions.IfNotModified
            )
            self._etag = str(written["etag"])
        except ResourceModifiedError:
            found = self._blob.get_blob_properties()
            if State.of(found.metadata) != state:
                raise ClaimLost(self.plan.upload.id) from None
            self._etag = str(found.etag)
        self.state = state

    def renew(self, now: datetime) -> None:
        """Hold on for another term, when a third of this one is gone."""
        if self.state.until and self.state.until - now < TERM * 2 / 3:
            self.change(until=now + TERM)

    def told(self, count: int, now: datetime) -> None:
        """The messages of the first `count` outcomes were sent: whatever it waited for is over."""
        self.change(told=count, until=now + TERM, waits=0, since=None, problem="")

    def done(self) -> None:
        """Nothing is left to do."""
        self.change(done=True, holder="", until=None, problem="")

    def park(self, due: datetime | None, problem: str, since: datetime | None) -> str:
        """Let go until `due`, or until `problem` is over; returns the nonce of the wake-up that may bring it back."""
        nonce, waits = str(uuid4()), self.state.waits + 1
        self._let_go(starts=0, waits=waits, due=due, nonce=nonce, problem=problem, since=since)
        return nonce

    def stall(self, problem: str) -> None:
        """Let go until a person sets it going again."""
        self._let_go(due=None, nonce=str(uuid4()), problem=problem, stalled=True)

    def release(self) -> None:
        """Let go at once, for whoever comes next."""
        self._let_go()

    def _let_go(self, **changes: object) -> None:
        self.change(holder="", until=None, unheard=self.unheard, **changes)


class _Remote:
    """Sections of a record that lies in the ledger; they are never rewritten."""

    def __init__(self, blob: BlobClient, offset: int) -> None:
        self._blob = blob
        self._offset = offset

    def read(self, section: Section) -> bytes:
        data: bytes = self._blob.download_blob(offset=self._offset + section.offset, length=section.length).readall()
        return data


class _Stream(io.RawIOBase):
    """A section as a file, behind bytes that go before it."""

    def __init__(self, sections: Sections, section: Section, before: bytes = b"") -> None:
        self._before = io.BytesIO(before)
        self._sections = sections
        self._at, self._end = section.offset, section.offset + section.length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        target = memoryview(buffer)
        piece = self._before.read(len(target))
        if not piece and (wanted := min(len(target), self._end - self._at)):
            piece = self._sections.read(Section(offset=self._at, length=wanted))
            self._at += len(piece)
        target[: len(piece)] = piece
        return len(piece)


def _read_plan(blob: BlobClient, length: int = _FIRST_READ) -> tuple[Plan, int, State, str]:
    """The plan, where its sections begin, the state and its ETag: one call where the plan is no longer than usual."""
    while True:
        found = blob.download_blob(offset=0, length=length)
        head = found.readall()
        line, end, _ = head.partition(b"\n")
        if end:
            properties = found.properties
            return (
                Plan.model_validate_json(line),
                len(line) + 1,
                State.of(properties.metadata),
                str(properties.etag),
            )
        if length > _LONGEST_PLAN:
            raise RuntimeError(f"{blob.blob_name} holds no plan")
        length *= 8
