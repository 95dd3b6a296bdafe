"""What can be said of one row without looking at the others."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from shared.manifest.columns import field_of, fields_in
from shared.manifest.device import FIELDS, Device, Row
from shared.manifest.findings import Code, Finding, in_words, quote
from shared.manifest.hardware_hash import LENGTH, Fault, Named, padded, read_hash
from shared.manifest.values import (
    LONGEST_CELL,
    are_sound,
    is_damaged,
    is_legible,
    is_no_product_id,
    is_placeholder,
    is_product_id,
)

# Far above any real value; what is longer is damage, and must not reach a message or a request.
LONGEST_VALUE = 512
LONGEST_HASH = 16_384

HASH_COLUMN = FIELDS["hardware_hash"]
KEY_COLUMN = FIELDS["product_key"]
_LONGEST_PLACEHOLDER = 64
_FEW = 100
_WITHOUT_DIGIT = re.compile(r"(?:^|\0)[^\d\0]+(?:\0|$)")  # as hardly a serial number is, and each column's name

type HashCheck = Literal["verify", "strict", "off"]


def are_plain(columns: Sequence[Sequence[str]]) -> bool:
    """Whether `examine` would find nothing in rows of these columns (in Device's order) but by their hashes.

    They are looked at as a whole, which is quick. It may say no where there is nothing; rows are then examined singly.
    """
    serials, keys, hashes, manufacturers, models = columns
    are_tuples = all(serials) and all(manufacturers) and all(models)
    are_identified = len(min(hashes, key=len)) == LENGTH or (not any(hashes) and (all(keys) or are_tuples))
    return (
        are_identified
        and (not any(keys) or _are_plain_product_ids(keys))
        and _are_plain_texts(serials, {*manufacturers, *models})
    )


def is_proved(device: Sequence[str]) -> bool:
    """Whether its hash holds and names the device as the row does. As above, it may say no where nothing is wrong."""
    serial, key, hardware_hash, manufacturer, model = device
    named = read_hash(hardware_hash)
    return (
        isinstance(named, Named)
        and serial in ("", named.serial_number)
        and key in ("", named.product_key)
        and manufacturer in ("", named.manufacturer)
        and model in ("", named.model)
    )


def _are_plain_product_ids(keys: Sequence[str]) -> bool:
    together = "".join(keys)
    return set(map(len, keys)) == {13} and together.isascii() and together.isdigit() and "0" * 13 not in keys


def _are_plain_texts(serials: Sequence[str], names: set[str]) -> bool:
    """Sound, printable, of a sensible length, and no header that stands among them."""
    return (
        len(names) <= _FEW
        and are_sound(serials)
        and are_sound(names)
        and all(is_legible("".join(c)) and len(max(c, key=len)) <= LONGEST_VALUE // 4 for c in (serials, names))
        and not any(map(field_of, names))
        and not (_WITHOUT_DIGIT.search("\0".join(serials)) and fields_in(serials))
    )


def examine(row: Row, hash_check: HashCheck) -> tuple[Device, list[Finding]]:
    """The device as it is to be sent, without placeholders and its hash padded; and what is wrong with the row."""
    device = _without_placeholders(row.device)
    findings = [*row.findings, *_values(row, hash_check)]
    if not device.is_identified and not _has_error(row.findings):
        findings.append(_only_placeholders(row) if row.device.is_identified else _unidentified(row))
    if device.hardware_hash and hash_check != "off" and not _has_error(findings):
        device, of_hash = _examine_hash(device, row.number, strict=hash_check == "strict")
        findings += of_hash
    return device, findings


def _has_error(findings: Sequence[Finding]) -> bool:
    return any(f.is_error for f in findings)


def _without_placeholders(device: Device) -> Device:
    for field, value in zip(FIELDS, device, strict=True):
        if value and len(value) <= _LONGEST_PLACEHOLDER and is_placeholder(value):
            device = device._replace(**{field: ""})
    return device


def _values(row: Row, hash_check: HashCheck) -> Iterator[Finding]:
    serial, key, hardware_hash, manufacturer, model = row.device
    short = f"{serial}{key}{manufacturer}{model}"
    if len(short) > LONGEST_VALUE or len(hardware_hash) > LONGEST_HASH or not is_legible(short):
        yield from _invalid(row)
    elif hash_check == "off" and not is_legible(hardware_hash):
        yield from _invalid(row)  # else the hash is decoded, which finds more
    for field, value in (("serial_number", serial), ("manufacturer", manufacturer), ("model", model)):
        if len(value) <= LONGEST_VALUE and is_damaged(value):
            yield _damaged(value, row.number, FIELDS[field])
    if 0 < len(key) <= LONGEST_VALUE and not is_product_id(key) and not is_placeholder(key):
        yield _odd_product_id(key, row.number)


def _invalid(row: Row) -> Iterator[Finding]:
    for (field, column), value in zip(FIELDS.items(), row.device, strict=True):
        longest = LONGEST_HASH if field == "hardware_hash" else LONGEST_VALUE
        if len(value) == LONGEST_CELL:
            yield _damaged(value, row.number, column)
        elif len(value) > longest:
            yield Finding(
                Code.INVALID_VALUE,
                f"{column} has {len(value):,} characters; at most {longest:,} make sense.",
                row.number,
                column,
            )
        elif not is_legible(value):
            yield Finding(
                Code.INVALID_VALUE,
                f"{column} {quote(value)} holds U+{_illegible(value):04X}: a control character, one that no font "
                "shows, or the mark of one that was lost. Type the value anew.",
                row.number,
                column,
            )


def _illegible(value: str) -> int:
    return ord(next(c for c in value if not is_legible(c)))


def _odd_product_id(key: str, number: int) -> Finding:
    if is_damaged(key):
        return _damaged(key, number, KEY_COLUMN)
    if is_no_product_id(key):
        message = (
            f"{quote(key)} is no Windows product id, which names one device in 13 digits; nor is a product's name, or "
            "the key that activates it. Leave the column empty where you do not have it."
        )
        return Finding(Code.INVALID_VALUE, message, number, KEY_COLUMN)
    message = f"{quote(key)} does not look like a Windows product id, which has 13 digits. It is sent as it is."
    return Finding(Code.PRODUCT_KEY_FORMAT, message, number, KEY_COLUMN)


def _damaged(value: str, number: int, column: str) -> Finding:
    what = (
        "was cut by a spreadsheet" if len(value) == LONGEST_CELL else f"was turned into {quote(value)} by a spreadsheet"
    )
    message = f"The {column} {what}. Format the column as text there, enter the values anew, and export again."
    return Finding(Code.DAMAGED_BY_SPREADSHEET, message, number, column)


def _only_placeholders(row: Row) -> Finding:
    field, value = next((f, v) for f, v in zip(FIELDS, row.device, strict=True) if v and is_placeholder(v))
    message = (
        f"{FIELDS[field]} {quote(value)} is a placeholder and names no device. Put the device's own "
        f"{FIELDS[field]} there."
    )
    return Finding(Code.PLACEHOLDER_VALUE, message, row.number, FIELDS[field])


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


def _examine_hash(device: Device, number: int, *, strict: bool) -> tuple[Device, list[Finding]]:
    given = device.hardware_hash
    fit = padded(given)
    findings = []
    found = read_hash(fit)
    if fit != given and (isinstance(found, Named) or found is Fault.UNVERIFIABLE):
        device = device._replace(hardware_hash=fit)
        message = "The hardware hash lacked the padding that Base64 wants; it is sent with it."
        findings.append(Finding(Code.HASH_PADDED, message, number, HASH_COLUMN))
    if isinstance(found, Named):
        findings += _contradictions(device, found, number)
    else:
        code, message = _FAULTS[found]
        message = message.format(length=len(given))
        of_kind = found is Fault.UNVERIFIABLE
        findings.append(Finding(code, message, number, HASH_COLUMN, strict=strict and of_kind))
    return device, findings


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


def _contradictions(device: Device, named: Named, number: int) -> Iterator[Finding]:
    """Where the hash names another device than the row does."""
    for field, code in _HELD_AGAINST_HASH.items():
        said, meant = getattr(device, field), getattr(named, field)
        if said != meant and said and meant and _differ(field, said, meant):
            yield Finding(
                code, _DIFFERENCE[code].format(FIELDS[field], quote(meant), quote(said)), number, FIELDS[field]
            )


_HELD_AGAINST_HASH = {
    "serial_number": Code.HASH_MISMATCH,
    "product_key": Code.HASH_MISMATCH,
    "manufacturer": Code.HASH_NAMES_OTHER_MODEL,
    "model": Code.HASH_NAMES_OTHER_MODEL,
}
_DIFFERENCE = {
    Code.HASH_MISMATCH: "The hash is of a device with {0} {1}, and the row says {2}. Was it pasted into another row?",
    Code.HASH_NAMES_OTHER_MODEL: "{0} is {2} here and {1} in the hash, which is what counts.",
}


def _differ(field: str, said: str, meant: str) -> bool:
    if is_placeholder(meant):
        return False  # firmware that its maker forgot to fill in contradicts nothing
    if field == "product_key" and not (len(said) == len(meant) and said.isdigit()):
        return False  # another way of writing product ids, of which there are several
    return _HELD_AGAINST_HASH[field] is Code.HASH_NAMES_OTHER_MODEL or said.casefold() != meant.casefold()


def serial_of(device: Device) -> str:
    """The device's serial number: as the row gives it, else as its hash does."""
    if device.serial_number or not device.hardware_hash:
        return device.serial_number
    named = read_hash(device.hardware_hash)
    return named.serial_number if isinstance(named, Named) else ""
