"""For whom a manifest is meant, and into which batch its devices go.

A batch id becomes the customer's Autopilot group tag, which decides the profiles a device gets and cannot be undone.
It is therefore never invented here, neither from a file's name nor from a GUID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from shared.manifest.findings import Code, Finding, Refused, in_words, quote
from shared.manifest.values import is_damaged, is_legible

LONGEST_BATCH_ID = 256
_BATCH_FOLDER = "batch="
_UNUSABLE = re.compile(r".*[/\\].*|\.\.?")
WAYS_TO_NAME_A_BATCH = (
    f"a Group Tag column, “BatchId” in JSON, a folder named “{_BATCH_FOLDER}TAG” on the path, or the metadata “batchid”"
)


@dataclass(frozen=True, slots=True)
class Customer:
    """What the setting CUSTOMERS says of one customer."""

    customer_id: UUID
    batch_id: str = ""
    batch_ids: tuple[str, ...] | None = None
    dry_run: bool = False


class Customers:
    """Who may be served, found by folder name or by customer id, in any letter case."""

    def __init__(self, entries: Mapping[str, Customer], anyone: Customer | None = None) -> None:
        """`anyone`: what holds for customers that have no entry of their own, whatever id it bears."""
        self._anyone = anyone
        self._by_name = {str(c.customer_id): c for c in entries.values()}
        self._by_name |= {name.casefold(): c for name, c in entries.items()}

    def find(self, folder: str) -> Customer | None:
        """The customer that drops into `folder`, or None if there is none."""
        known = self._by_name.get(folder.casefold())
        if known:
            return known
        try:
            customer_id = UUID(folder)  # however it is written: what is set up for a customer holds in any spelling
        except ValueError:
            return None
        known = self._by_name.get(str(customer_id))
        if known or self._anyone is None:
            return known
        return replace(self._anyone, customer_id=customer_id)


@dataclass(frozen=True, slots=True)
class Destination:
    """A customer, and the batch for rows of a manifest that name none themselves (empty: there is no such batch)."""

    customer: Customer
    default_batch: str = ""
    _allowed: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        allowed = {tag.casefold(): tag for tag in self.customer.batch_ids or ()}
        object.__setattr__(self, "_allowed", allowed)

    @property
    def customer_id(self) -> str:
        return str(self.customer.customer_id)

    def is_customer(self, claimed: str) -> bool:
        """Whether the manifest's own word for its customer, if it has one, agrees."""
        try:
            return not claimed or UUID(claimed) == self.customer.customer_id
        except ValueError:
            return False

    def batch(self, document: str = "", tag: str = "") -> str | Finding:
        """The batch id for what a document and a row say, or the finding that there is none to be had."""
        wanted = document or tag or self.default_batch
        if not wanted:
            return Finding(Code.MISSING_BATCH_ID, f"Nothing names the batch. Add {WAYS_TO_NAME_A_BATCH}.")
        if (
            len(wanted) > LONGEST_BATCH_ID
            or not is_legible(wanted)
            or _UNUSABLE.fullmatch(wanted)
            or is_damaged(wanted)
        ):
            return Finding(
                Code.INVALID_BATCH_ID,
                f"{quote(wanted)} cannot be a batch id: it may have up to {LONGEST_BATCH_ID} characters, no slash or "
                "backslash, no control characters, and be no formula or error of a spreadsheet.",
            )
        if self.customer.batch_ids is None:
            return wanted
        return self._allowed.get(wanted.casefold()) or Finding(
            Code.BATCH_NOT_ALLOWED,
            f"{quote(wanted)} is not a batch this folder may use. It may use {_listed(self.customer.batch_ids)}.",
        )


def is_addressable(path: str) -> bool:
    """Whether a blob's path means the same to everybody who reads it."""
    return "\\" not in path and not {".", ".."} & set(path.split("/"))


def find_destination(
    path: str, metadata: Mapping[str, str], customers: Customers, default_batch: str = ""
) -> Destination:
    """Where the manifest at `path` (below the container) goes. Raises Refused for one in nobody's folder."""
    *folders, _file = path.split("/")
    if not is_addressable(path):
        # Clients normalize such a path, so that one supplier's folder would lead into another's.
        raise Refused(Code.UNKNOWN_CUSTOMER, "The path holds “.”, “..” or a backslash. Drop the file without them.")
    if not folders:
        raise Refused(
            Code.UNKNOWN_CUSTOMER,
            "The file lies outside any customer's folder. Drop it into your customer's folder.",
        )
    customer = customers.find(folders[0])
    if customer is None:
        raise Refused(
            Code.UNKNOWN_CUSTOMER,
            f"No customer is set up for the folder {quote(folders[0])}. Check the spelling, or ask the partner for it.",
        )
    in_path = [f[len(_BATCH_FOLDER) :].strip() for f in folders if f.casefold().startswith(_BATCH_FOLDER)]
    of_blob = next((v for k, v in metadata.items() if k.casefold() == "batchid"), "")
    default = (in_path[-1] if in_path else "") or of_blob.strip() or customer.batch_id.strip() or default_batch
    return Destination(customer, default.strip())


def _listed(tags: tuple[str, ...]) -> str:
    if not tags:
        return "none"
    return in_words([quote(t) for t in tags[:5]], "or") + (f", or {len(tags) - 5} others" if len(tags) > 5 else "")
