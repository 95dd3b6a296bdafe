"""CUSTOMERS: who may be served, as JSON in the setting itself, or as a blob that may change while the app runs."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Self
from uuid import UUID

from azure.core.exceptions import AzureError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from shared.alerts import Alerts
from shared.faults import Fault, OperatorsFault
from shared.manifest import Customer, Customers, Destination, Finding
from shared.settings import SettingsError
from shared.storage import fault_of

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, BlobServiceClient

logger = logging.getLogger(__name__)

_MAX_AGE = 60.0  # seconds
_MEANWHILE = "Correct it; until then its last good copy serves, and manifests wait where there is none."
_BLOB = re.compile(r"([a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9])/(.+)")
_ANY_CUSTOMER = "*"
_FAULTS_NAMED = 10
_NOBODY = UUID(int=0)


class _Terms(BaseModel):
    model_config = ConfigDict(extra="forbid")

    batch_id: str = Field("", alias="batchId")
    batch_ids: tuple[str, ...] | None = Field(None, alias="batchIds")
    dry_run: bool = Field(False, alias="dryRun")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        """A batch that no manifest could go to would be held against each of the customer's."""
        allowed = Destination(Customer(_NOBODY, batch_ids=self.batch_ids))
        for tag in filter(None, (self.batch_id.strip(), *(self.batch_ids or ()))):
            if isinstance(found := allowed.batch(tag), Finding):
                raise ValueError(found.message)
        return self


class _Entry(_Terms):
    customer_id: UUID = Field(alias="customerId")


def _spelt_out(value: object) -> object:
    return {"customerId": value} if isinstance(value, str) else value


_Entries = TypeAdapter(dict[str, Annotated[_Entry, BeforeValidator(_spelt_out)]])


def parse_customers(text: str) -> Customers:
    """From the JSON of the setting CUSTOMERS. Raises ValueError, saying which entry is wrong and how."""
    entries = json.loads(text)
    if not isinstance(entries, dict):
        raise ValueError('CUSTOMERS must be a JSON object like {"folder": "customer id"}')
    if len({name.casefold() for name in entries}) < len(entries):
        raise ValueError("two folders differ in letter case alone")
    anyone = entries.pop(_ANY_CUSTOMER, None)
    try:
        return Customers(
            {name: Customer(**e.model_dump()) for name, e in _Entries.validate_python(entries).items()},
            None if anyone is None else Customer(_NOBODY, **_Terms.model_validate(anyone).model_dump()),
        )
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        more = [f"and {len(faults) - _FAULTS_NAMED:,} more"] if len(faults) > _FAULTS_NAMED else []
        raise ValueError("; ".join([*faults[:_FAULTS_NAMED], *more])) from None


def customers_of(setting: str, blobs: BlobServiceClient, alerts: Alerts) -> CustomersInSetting | CustomersInBlob:
    """The directory that the setting describes. Raises SettingsError where it is neither."""
    if found := _BLOB.fullmatch(setting):
        return CustomersInBlob(blobs.get_blob_client(found[1], found[2]), alerts)
    try:
        return CustomersInSetting(parse_customers(setting), alerts)
    except ValueError as error:
        raise SettingsError(
            f"App settings: CUSTOMERS must be JSON, or container/blob of such JSON. As JSON: {error}"
        ) from None


class CustomersInSetting:
    """They stay as they are until the app is started anew."""

    def __init__(self, customers: Customers, alerts: Alerts) -> None:
        self._customers = customers
        self._alerts = alerts

    def current(self) -> Customers:
        return self._customers

    def check(self) -> None:
        """Nothing can have become of them; a blob that was named before is read by nobody any more."""
        self._alerts.resolve("customers-unreadable")


class CustomersInBlob:
    """Read again when older than a minute. While that fails, operators are told and the last good copy is served."""

    def __init__(self, blob: BlobClient, alerts: Alerts) -> None:
        self._blob = blob
        self._alerts = alerts
        self._lock = threading.Lock()
        self._good: Customers | None = None
        self._tried_at = 0.0
        self._told = False

    def current(self) -> Customers:
        """Raises a Fault where there is no good copy: nobody's folder may be called unknown for that."""
        with self._lock:
            if self._good is None or time.monotonic() - self._tried_at > _MAX_AGE:
                self._read_anew()
            assert self._good is not None
            return self._good

    def check(self) -> None:
        """Read it now, and take the alert back where that succeeds, whoever raised it."""
        with self._lock:
            self._told = True
            with suppress(Fault):
                self._read_anew()

    def _read_anew(self) -> None:
        self._tried_at = time.monotonic()
        try:
            self._good = self._read()
        except Fault as fault:
            self._tell(fault)
            if self._good is None:
                raise
        else:
            self._take_back()

    def _read(self) -> Customers:
        where = f"CUSTOMERS, the blob {self._blob.container_name}/{self._blob.blob_name}"
        try:
            return parse_customers(self._blob.download_blob().readall().decode("utf-8-sig"))
        except AzureError as error:
            fault = fault_of(error)
            if not isinstance(fault, OperatorsFault):
                raise fault from error
            raise OperatorsFault("customers-unreadable", f"{where}, cannot be read. {fault.advice}") from error
        except ValueError as error:
            raise OperatorsFault(
                "customers-unreadable", f"{where}, is not as it should be: {error}. {_MEANWHILE}"
            ) from None

    def _tell(self, fault: Fault) -> None:
        logger.error("customers.unreadable %s", fault)
        if isinstance(fault, OperatorsFault):
            with suppress(AzureError):  # the next who finds it so tells of it
                self._alerts.raise_for(fault)
                self._told = True

    def _take_back(self) -> None:
        if self._told:
            with suppress(AzureError):  # the next sweep checks, and takes it back
                self._alerts.resolve("customers-unreadable")
                self._told = False
