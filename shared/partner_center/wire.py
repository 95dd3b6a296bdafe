"""What goes over the wire: requests as the archived .NET SDK writes them, and the replies we read.

The source is the documentation page "Upload a list of devices to create a new batch for the specified customer".
"""

import json
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, BaseModel, Field

from shared.manifest import Device

_NEVER_UPLOADED = "0001-01-01T00:00:00"


def render_device(device: Device) -> bytes:
    """One element of `Devices`. Members that the manifest does not give are null, or absent where the page has none."""
    members: dict[str, object] = {
        "Id": None,
        "SerialNumber": device.serial_number or None,
        "ProductKey": device.product_key or None,
        "HardwareHash": device.hardware_hash or None,
        "Policies": None,
        "CreatedBy": None,
        "UploadedDate": _NEVER_UPLOADED,
        "AllowedOperations": None,
        "Attributes": {"ObjectType": "Device"},
    }
    if device.manufacturer:
        members["OemManufacturerName"] = device.manufacturer
    if device.model:
        members["ModelName"] = device.model
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


def render_creation(batch_id: str, devices: bytes) -> bytes:
    """A DeviceBatchCreationRequest around `devices`, a JSON array that is already rendered."""
    name = json.dumps(batch_id, ensure_ascii=False).encode()
    return (
        b'{"BatchId":' + name + b',"Devices":' + devices + b',"Attributes":{"ObjectType":"DeviceBatchCreationRequest"}}'
    )


class Batch(BaseModel):
    """One of a customer's batches; what else the reply says of it does not matter here."""

    id: str = Field(validation_alias=AliasChoices("id", "Id"))


class BatchList(BaseModel):
    """The reply to "Get a list of device batches for the specified customer"."""

    items: list[Batch] = Field(validation_alias=AliasChoices("items", "Items"), default_factory=list)


def tracking_uri(base_url: str, location: str | None) -> str | None:
    """Where to ask for the status of what `location` (the header, verbatim) names; None where that is another host.

    The header is relative, without host and without `/v1`: `/customers/…`. Seen elsewhere: no leading slash, `/v1`
    there already, an absolute address. A plain urljoin would drop the `/v1`. What no address may hold is escaped.
    """
    if not location:
        return None
    try:
        base, parts = urlsplit(base_url), urlsplit(location)
    except ValueError:
        return None  # brackets that are no IPv6 address
    if parts.netloc and (parts.scheme, _host(parts.netloc)) != (base.scheme, _host(base.netloc)):
        return None
    path = "/" + parts.path.lstrip("/")
    if not path.casefold().startswith("/v1/"):
        path = "/v1" + path
    query = f"?{parts.query}" if parts.query else ""
    return base_url.rstrip("/") + quote(path + query, safe="%/:?@!$&'()*+,;=")


def _host(netloc: str) -> str:
    return netloc.casefold().removesuffix(":443")
