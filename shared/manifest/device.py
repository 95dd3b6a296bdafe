"""One device of a manifest, and what identifies it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.manifest.findings import Finding


class Device(NamedTuple):
    """A device as the manifest names it: values byte for byte, but for outer white space; empty where not given."""

    serial_number: str = ""
    product_key: str = ""
    hardware_hash: str = ""
    manufacturer: str = ""
    model: str = ""

    def __repr__(self) -> str:
        shown = self._replace(hardware_hash="…" if self.hardware_hash else "")
        return f"Device{tuple(shown)}"

    @property
    def is_blank(self) -> bool:
        return not any(self)

    @property
    def is_identified(self) -> bool:
        """Hash, or product key, or serial with manufacturer and model.

        These three cover the six combinations of Partner Center's documentation, "Upload a list of devices".
        """
        return bool(self.hardware_hash or self.product_key or (self.serial_number and self.manufacturer and self.model))


class Row(NamedTuple):
    """One row as a reader found it. `group_tag` and `customer_id` are what the row itself says, if anything.

    `beyond`: what it holds that has no place in these, and is a fault.
    """

    number: int
    device: Device
    group_tag: str = ""
    customer_id: str = ""
    findings: tuple[Finding, ...] = ()
    beyond: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlainRows:
    """Consecutive rows of which nothing needs saying but what hashes and other rows bring up (`checks.are_plain`).

    `columns` are of Device's fields; either each row has a hash, or none has.
    """

    first: int
    columns: Sequence[Sequence[str]]
    group_tags: Sequence[str]
    customer_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.group_tags)

    @property
    def hold_hashes(self) -> bool:
        return bool(self.columns[2][0])

    def devices(self) -> Iterator[tuple[str, ...]]:
        return zip(*self.columns, strict=True)

    def rows(self) -> Iterator[Row]:
        """The same, one by one."""
        rows = zip(self.devices(), self.group_tags, self.customer_ids, strict=True)
        for number, (device, tag, customer) in enumerate(rows, self.first):
            yield Row(number, Device._make(device), tag, customer)


FIELDS = {
    "serial_number": "Device Serial Number",
    "product_key": "Windows Product ID",
    "hardware_hash": "Hardware Hash",
    "manufacturer": "Manufacturer name",
    "model": "Device model",
}
