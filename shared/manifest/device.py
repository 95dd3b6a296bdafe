"""One device of a manifest, and what identifies it."""

from dataclasses import dataclass, field

from shared.manifest.findings import Finding


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the manifest names it: values byte for byte, but for outer white space; empty where not given."""

    serial_number: str = ""
    product_key: str = ""
    hardware_hash: str = field(default="", repr=False)
    manufacturer: str = ""
    model: str = ""

    @property
    def is_blank(self) -> bool:
        return not (self.serial_number or self.product_key or self.hardware_hash or self.manufacturer or self.model)

    @property
    def is_identified(self) -> bool:
        """Hash, or product key, or serial with manufacturer and model.

        These three cover the six combinations of Partner Center's documentation, "Upload a list of devices".
        """
        return bool(self.hardware_hash or self.product_key or (self.serial_number and self.manufacturer and self.model))


@dataclass(frozen=True, slots=True)
class Row:
    """One row as a reader found it. `group_tag` and `customer_id` are what the row itself says, if anything."""

    number: int
    device: Device
    group_tag: str = ""
    customer_id: str = ""
    findings: tuple[Finding, ...] = ()


FIELDS = {
    "serial_number": "Device Serial Number",
    "product_key": "Windows Product ID",
    "hardware_hash": "Hardware Hash",
    "manufacturer": "Manufacturer name",
    "model": "Device model",
}
