"""What can be said of one row without looking at the others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from shared.manifest.device import FIELDS, Device, Row
from shared.manifest.findings import Code, Finding, in_words, quote
from shared.manifest.hardware_hash import LENGTH, Fault, Named, padded, read_hash

# Far above any real value; what is longer is damage, and must not reach a message or a request.
LONGEST_VALUE = 512
LONGEST_HASH = 16_384

HASH_COLUMN = FIELDS["hardware_hash"]
# What firmware says where its maker forgot to fill it in: it names no device, so it contradicts none.
_FILLED_IN_BY_NOBODY = frozenset(
    {"system serial number", "to be filled by o.e.m.", "default string", "none", "0", "123456789", "invalid"}
)

type HashCheck = Literal["verify", "strict", "off"]


def examine(row: Row, hash_check: HashCheck) -> tuple[Row, list[Finding]]:
    """The row as it is to be sent (its hash padded), and what is wrong with it."""
    findings = [*row.findings, *_values(row)]
    if not row.device.is_identified and not any(f.is_error for f in row.findings):
        findings.append(_unidentified(row))
    if row.device.hardware_hash and hash_check != "off" and not findings:
        row, findings = _examine_hash(row, strict=hash_check == "strict")
    return row, findings


def _values(row: Row) -> Iterator[Finding]:
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


def _examine_hash(row: Row, *, strict: bool) -> tuple[Row, list[Finding]]:
    given = row.device.hardware_hash
    fit = padded(given)
    findings = []
    found = read_hash(fit)
    if fit != given and (isinstance(found, Named) or found is Fault.UNVERIFIABLE):
        row = replace(row, device=replace(row.device, hardware_hash=fit))
        message = "The hardware hash lacked the padding that Base64 wants; it is sent with it."
        findings.append(Finding(Code.HASH_PADDED, message, row.number, HASH_COLUMN))
    if isinstance(found, Named):
        findings += _contradictions(row, found)
    else:
        code, message = _FAULTS[found]
        message = message.format(length=len(given))
        of_kind = found is Fault.UNVERIFIABLE
        findings.append(Finding(code, message, row.number, HASH_COLUMN, strict=strict and of_kind))
    return row, findings


_FAULTS = {
    Fault.NOT_BASE64: (
        Code.HASH_NOT_BASE64,
        "The hardware hash holds characters that no hash has: a space, a line break, or dots where it was shortened. "
        "Export it again.",
    ),
    Fault.TRUNCATED: (
        Code.HASH_TRUNCATED,
        f"The hardware hash was cut off: it has {{length:,}} of {LENGTH:,} characters. Export it again, and let no "
        "spreadsheet and no database column shorten it.",
    ),
    Fault.CORRUPT: (
        Code.HASH_CORRUPT,
        "The hardware hash is damaged: its own checksum does not hold. Collect it from the device again.",
    ),
    Fault.UNVERIFIABLE: (
        Code.HASH_UNVERIFIED,
        "The hardware hash is not of the 4K kind, so it could not be verified before it was sent.",
    ),
}


def _contradictions(row: Row, named: Named) -> Iterator[Finding]:
    """Where the hash names another device than the row does."""
    for field in ("serial_number", "product_key"):
        said, meant = getattr(row.device, field), getattr(named, field)
        if _differ(field, said, meant):
            message = f"The hash is of a device with {FIELDS[field]} {quote(meant)}, and the row says {quote(said)}. "
            message += "Was it pasted into another row?"
            yield Finding(Code.HASH_MISMATCH, message, row.number, FIELDS[field])
    for field in ("manufacturer", "model"):
        said, meant = getattr(row.device, field), getattr(named, field)
        if _differ(field, said, meant):
            message = f"{FIELDS[field]} is {quote(said)} here and {quote(meant)} in the hash, which is what counts."
            yield Finding(Code.HASH_NAMES_OTHER_MODEL, message, row.number, FIELDS[field])


def _differ(field: str, said: str, meant: str) -> bool:
    if field == "product_key" and not (len(said) == len(meant) and said.isdigit()):
        return False  # another way of writing product ids, of which there are several
    alike = said.casefold() == meant.casefold() and field in ("serial_number", "product_key")
    return bool(said and meant and said != meant and not alike and meant.casefold() not in _FILLED_IN_BY_NOBODY)


def serial_of(device: Device) -> str:
    """The device's serial number: as the row gives it, else as its hash does."""
    if device.serial_number or not device.hardware_hash:
        return device.serial_number
    named = read_hash(device.hardware_hash)
    return named.serial_number if isinstance(named, Named) else ""
