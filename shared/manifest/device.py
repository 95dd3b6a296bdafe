"""One device of a manifest, and what identifies it."""

from collections.abc import Iterator
from dataclasses import dataclass

from shared.manifest.findings import Code, Finding, in_words, quote

# Far above any real value; what is longer is damage, and must not reach a message or a request.
LONGEST_VALUE = 512
LONGEST_HASH = 16_384


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the manifest names it: values byte for byte, but for outer white space; empty where not given."""

    serial_number: str = ""
    product_key: str = ""
    hardware_hash: str = ""
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


def check(row: Row) -> Iterator[Finding]:
    """What is wrong with this row, looked at alone."""
    yield from row.findings
    for field, column in FIELDS.items():
        value = getattr(row.device, field)
        longest = LONGEST_HASH if field == "hardware_hash" else LONGEST_VALUE
        if len(value) > longest:
            yield Finding(
                Code.INVALID_VALUE,
                f"{column} has {len(value):,} characters; at most {longest:,} make sense.",
                row.number,
                column,
            )
        elif not value.isprintable():
            yield Finding(
                Code.INVALID_VALUE,
                f"{column} {quote(value)} holds a control character or one that no font shows. Type the value anew.",
                row.number,
                column,
            )
    if not row.device.is_identified and not any(f.is_error for f in row.findings):
        yield _unidentified(row)


def _unidentified(row: Row) -> Finding:
    device = row.device
    tuple_fields = ("serial_number", "manufacturer", "model")
    given = [FIELDS[f] for f in tuple_fields if getattr(device, f)]
    missing = [FIELDS[f] for f in tuple_fields if not getattr(device, f)]
    what = f"{in_words(given)} alone {'is' if len(given) == 1 else 'are'} not enough: " if given else ""
    return Finding(
        Code.UNIDENTIFIED_DEVICE,
        f"{what}a device needs a Hardware Hash, or a Windows Product ID, or its serial number with manufacturer "
        f"and model. Add {in_words(missing)}, or one of the other two.",
        row.number,
    )
