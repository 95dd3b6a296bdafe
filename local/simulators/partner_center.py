"""Partner Center's device batches, as its documentation and recordings describe them."""

from __future__ import annotations

import json
import math
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from local.certificates import Certificates
from local.simulators.faults import Reply, json_reply
from local.simulators.server import ReceivedRequest, Simulator, route

type LocationStyle = Literal["relative", "no-leading-slash", "versioned", "absolute", "other-host", "missing"]

MOST_DEVICES = 1000
PAGE = 100
_IDENTITY = ("serialnumber", "productkey", "hardwarehash", "oemmanufacturername", "modelname")
_DEVICE_ERRORS = {
    "640": "StorageError",
    "801": "InvalidZtdRequestBody",
    "802": "InvalidZtdHardwareHash",
    "803": "MissingZtdSerialNumberAndProductKey",
    "806": "ZtdDeviceAlreadyAssigned",
    "808": "ZtdDeviceAssignedToOtherTenant",
    "812": "ZtdDeviceNotFound",
    "813": "ZtdDeviceIsNotUnique",
    "814": "ZtdDeviceAlreadyAadRegistered",
}


class _RefusedError(Exception):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Throttle:
    """So many requests in a window of so many seconds; then 429 until the window ends."""

    requests: int
    seconds: float = 57


@dataclass(slots=True)
class _Job:
    tracking_id: str
    customer: str
    devices: list[dict[str, Any]]
    known: frozenset[str]  # those of its devices that the customer had before
    started: float
    polls: int = 0


class PartnerCenterSimulator(Simulator):
    """Customers' device batches. `claims_of` is the authority's word on a bearer token."""

    def __init__(self, certificates: Certificates, claims_of: Callable[[str], dict[str, Any] | None]) -> None:
        super().__init__(certificates)
        self.known_customers: set[str] | None = None  # None: every GUID
        self.remembers_request_ids = True
        self.location_style: LocationStyle = "relative"
        self.throttle: Throttle | None = None
        # A job is queued for so many polls, then processing for so many, and for so long at least.
        self.queued_polls = 1
        self.processing_polls = 1
        self.job_seconds = 0.0
        self.finished_status = "finished"  # which is no success: read each device
        self.device_errors: dict[str, str] = {}  # by serial number, product key or hash: "808"
        self._claims_of = claims_of
        self._batches: dict[str, dict[str, list[dict[str, Any]]]] = {}
        self._known: dict[str, set[str]] = {}  # devices by customer
        self._jobs: dict[str, _Job] = {}
        self._answered: dict[tuple[str, str], str] = {}  # request id and path → tracking id
        self._window: tuple[float, int] = (-math.inf, 0)
        customer = "/v1/customers/{customer}"
        self.routes = [
            route("POST", f"{customer}/deviceBatches", self._create),
            route("GET", f"{customer}/deviceBatches", self._list_batches),
            route("POST", f"{customer}/deviceBatches/{{batch}}/devices", self._append),
            route("GET", f"{customer}/deviceBatches/{{batch}}/devices", self._list_devices),
            route("GET", f"{customer}/batchJobStatus/{{tracking_id}}", self._job_status),
        ]

    def batches(self, customer: str) -> dict[str, list[dict[str, Any]]]:
        """Every device that was accepted, as it was sent, by batch. Sent twice, it is here twice."""
        with self.lock:
            return {name: list(devices) for name, devices in self._batches.get(customer.lower(), {}).items()}

    def add_batch(self, customer: str, batch: str, devices: list[dict[str, Any]] | None = None) -> None:
        """A batch the customer has from earlier."""
        with self.lock:
            self._batches.setdefault(customer.lower(), {})[batch] = list(devices or [])
            self._known.setdefault(customer.lower(), set()).update(map(_identity, devices or []))

    def posts(self) -> list[ReceivedRequest]:
        with self.lock:
            return [request for request in self.requests if request.method == "POST"]

    def carry_out(self, request: ReceivedRequest) -> Reply:
        try:
            self._check_throttle()
            self._check_token(request)
            reply = super().carry_out(request)
        except _RefusedError as refused:
            reply = refused.reply
        return replace(reply, headers={**reply.headers, **_service_headers(request)})

    def not_found(self, request: ReceivedRequest) -> Reply:
        return _error(404, "1000", "The resource was not found.")

    def _check_throttle(self) -> None:
        if self.throttle is None:
            return
        with self.lock:
            began, count = self._window
            now = time.monotonic()
            if now >= began + self.throttle.seconds:
                began, count = now, 0
            self._window = began, count + 1
            if count >= self.throttle.requests:
                raise _RefusedError(throttled(math.ceil(began + self.throttle.seconds - now)))

    def _check_token(self, request: ReceivedRequest) -> None:
        claims = self._claims_of(request.bearer)
        if claims is None:
            raise _RefusedError(Reply(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}))
        if "mfa" not in claims.get("amr", []):
            raise _RefusedError(mfa_required())

    def _create(self, request: ReceivedRequest, customer: str) -> Reply:
        self._check_customer(customer)
        batch, devices = _creation_request(request)
        if earlier := self._answered_before(request):
            return self._accepted(customer, earlier)
        if self._spelling(customer, batch) is not None:
            raise _RefusedError(_error(409, "409", f"The device batch '{batch}' already exists."))
        return self._take(request, customer, batch, devices)

    def _append(self, request: ReceivedRequest, customer: str, batch: str) -> Reply:
        self._check_customer(customer)
        devices = _devices(_document(request))
        if earlier := self._answered_before(request):
            return self._accepted(customer, earlier)
        return self._take(request, customer, self._existing(customer, batch), devices)

    def _take(self, request: ReceivedRequest, customer: str, batch: str, devices: list[dict[str, Any]]) -> Reply:
        batches = self._batches.setdefault(customer.lower(), {})
        batches.setdefault(batch, []).extend(devices)
        known, sent = self._known.setdefault(customer.lower(), set()), set(map(_identity, devices))
        job = _Job(str(uuid.uuid4()), customer.lower(), devices, frozenset(sent & known), time.monotonic())
        known |= sent
        self._jobs[job.tracking_id] = job
        if request_id := request.headers.get("MS-RequestId"):
            self._answered[request_id.lower(), request.path.lower()] = job.tracking_id
        return self._accepted(customer, job.tracking_id)

    def _answered_before(self, request: ReceivedRequest) -> str | None:
        """MS-RequestId is the idempotency key: a repeated call is answered, and not carried out."""
        request_id = request.headers.get("MS-RequestId", "").lower()
        return self._answered.get((request_id, request.path.lower())) if self.remembers_request_ids else None

    def _accepted(self, customer: str, tracking_id: str) -> Reply:
        path = f"/customers/{customer}/batchJobStatus/{tracking_id}"
        locations: dict[LocationStyle, dict[str, str]] = {
            "relative": {"Location": path},
            "no-leading-slash": {"Location": path[1:]},
            "versioned": {"Location": f"/v1{path}"},
            "absolute": {"Location": f"{self.url}/v1{path}"},
            "other-host": {"Location": f"https://api.partnercenter.example/v1{path}"},
            "missing": {},
        }
        return Reply(202, headers=locations[self.location_style])

    def _list_batches(self, request: ReceivedRequest, customer: str) -> Reply:
        self._check_customer(customer)
        batches = self._batches.get(customer.lower(), {})
        items = [_listed_batch(customer, name, len(devices)) for name, devices in batches.items()]
        return json_reply(200, _collection(items, len(items)))

    def _list_devices(self, request: ReceivedRequest, customer: str, batch: str) -> Reply:
        self._check_customer(customer)
        devices = self._batches[customer.lower()][self._existing(customer, batch)]
        token = request.headers.get("MS-ContinuationToken", "0")
        start = int(token) if token.isdecimal() else 0
        page = [_listed(device) for device in devices[start : start + PAGE]]
        more = {"continuationToken": str(start + PAGE)} if start + PAGE < len(devices) else {}
        return json_reply(200, {**_collection(page, len(devices)), "links": {}, **more})

    def _job_status(self, request: ReceivedRequest, customer: str, tracking_id: str) -> Reply:
        job = self._jobs.get(tracking_id.lower())
        if job is None or job.customer != customer.lower():
            raise _RefusedError(_error(404, "1000", f"The batch job '{tracking_id}' was not found."))
        job.polls += 1
        status = self._progress(job)
        details: dict[str, Any] = {
            "batchTrackingId": job.tracking_id,
            "status": status,
            "startedTime": _timestamp(),
            "devicesStatus": None,
            "attributes": {"objectType": "BatchUploadDetails"},
        }
        if status == self.finished_status:
            details["completedTime"] = _timestamp()
            details["devicesStatus"] = [self._device_status(job, device) for device in job.devices]
        return json_reply(200, details)

    def _progress(self, job: _Job) -> str:
        if job.polls <= self.queued_polls:
            return "queued"
        if job.polls <= self.queued_polls + self.processing_polls:
            return "processing"
        return "processing" if time.monotonic() < job.started + self.job_seconds else self.finished_status

    def _device_status(self, job: _Job, device: dict[str, Any]) -> dict[str, Any]:
        code = self._device_error(job, device)
        folded = _folded(device)
        ids = {"serialNumber": folded.get("serialnumber"), "productKey": folded.get("productkey")}
        return {
            **{name: value for name, value in ids.items() if value},
            "status": "finished_with_errors" if code else "finished",
            "errorCode": code,
            "errorDescription": _DEVICE_ERRORS.get(code, "ZtdUnknownError") if code else None,
            "attributes": {"objectType": "DeviceUploadDetails"},
        }

    def _device_error(self, job: _Job, device: dict[str, Any]) -> str | None:
        folded = _folded(device)
        names = [folded.get(member) for member in _IDENTITY[:3]]
        configured = (self.device_errors[name] for name in names if name in self.device_errors)
        return next(configured, "806" if _identity(device) in job.known else None)

    def _check_customer(self, customer: str) -> None:
        try:
            uuid.UUID(customer)
        except ValueError:
            raise _RefusedError(_error(400, "900118", "The customer id is not valid.")) from None
        known = self.known_customers
        if known is not None and customer.lower() not in {name.lower() for name in known}:
            raise _RefusedError(_error(404, "60003", f"The customer '{customer}' was not found."))

    def _spelling(self, customer: str, batch: str) -> str | None:
        batches = self._batches.get(customer.lower(), {})
        return next((name for name in batches if name.lower() == batch.lower()), None)

    def _existing(self, customer: str, batch: str) -> str:
        found = self._spelling(customer, batch)
        if found is None:
            raise _RefusedError(_error(404, "1000", f"The device batch '{batch}' was not found."))
        return found


def throttled(seconds: int) -> Reply:
    message = f"Rate limit is exceeded. Try again in {seconds} seconds."
    return json_reply(429, {"statusCode": 429, "message": message}, {"Retry-After": str(seconds)})


def mfa_required() -> Reply:
    headers = {"Transfer-Encoding": "chunked", "WWW-Authenticate": 'Bearer error="invalid_token"'}
    return Reply(401, headers=headers, reason="Unauthorized - MFA required")


def _error(status: int, code: str, description: str) -> Reply:
    return json_reply(status, {"code": code, "description": description, "data": [], "source": "PartnerFD"})


def _service_headers(request: ReceivedRequest) -> dict[str, str]:
    return {
        "MS-CorrelationId": request.headers.get("MS-CorrelationId", str(uuid.uuid4())),
        "MS-RequestId": request.headers.get("MS-RequestId", str(uuid.uuid4())),
        "MS-CV": f"{secrets.token_urlsafe(12)}.0",
        "MS-ServerId": "030020525",
    }


def _document(request: ReceivedRequest) -> Any:
    try:
        return request.json
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise _RefusedError(_error(400, "3000", "The request body is not valid JSON.")) from None


def _creation_request(request: ReceivedRequest) -> tuple[str, list[dict[str, Any]]]:
    document = _document(request)
    folded = _folded(document) if isinstance(document, dict) else {}
    batch = folded.get("batchid")
    if not isinstance(batch, str) or not batch.strip():
        raise _RefusedError(_error(400, "3000", "The request is not a DeviceBatchCreationRequest with a BatchId."))
    return batch, _devices(folded.get("devices"))


def _devices(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, list) or not 1 <= len(document) <= MOST_DEVICES:
        raise _RefusedError(_error(400, "3000", f"Devices must be a list of 1 to {MOST_DEVICES} devices."))
    for number, device in enumerate(document):
        if not isinstance(device, dict) or not _is_identified(_folded(device)):
            raise _RefusedError(_error(400, "800002", f"Device {number} is not valid or cannot be identified."))
    return document


def _is_identified(device: dict[str, Any]) -> bool:
    if any(not isinstance(device.get(member), str | None) for member in _IDENTITY):
        return False
    serial, key, hardware_hash, manufacturer, model = (device.get(member) for member in _IDENTITY)
    return bool(hardware_hash or key or (serial and manufacturer and model))


def _identity(device: dict[str, Any]) -> str:
    folded = _folded(device)
    return json.dumps([folded.get(member) or None for member in _IDENTITY])


def _folded(document: dict[str, Any]) -> dict[str, Any]:
    """Names bind without case."""
    return {name.lower(): value for name, value in document.items()}


def _listed_batch(customer: str, name: str, devices: int) -> dict[str, Any]:
    uri = f"/customers/{customer}/deviceBatches/{name}/devices"
    return {
        "id": name,
        "creationDate": "0001-01-01T00:00:00",
        "devicesCount": devices,
        "devicesLink": {"uri": uri, "method": "GET", "headers": []},
        "attributes": {"objectType": "DeviceBatch"},
    }


def _listed(device: dict[str, Any]) -> dict[str, Any]:
    folded = _folded(device)
    members = {"serialNumber", "productKey", "modelName", "oemManufacturerName"}
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, _identity(device))),
        **{name: folded[name.lower()] for name in sorted(members) if folded.get(name.lower())},
        "policies": [{"key": "o_o_b_e", "value": None}],
        "uploadedDate": _timestamp(),
        "attributes": {"objectType": "Device"},
    }


def _collection(items: list[dict[str, Any]], total: int) -> dict[str, Any]:
    return {"totalCount": total, "items": items, "attributes": {"objectType": "Collection"}}


def _timestamp() -> str:
    # Seven fraction digits and an offset, as the service writes them.
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00")
