"""What suppliers call the things we know, in any case, order and spacing (`reference/manifests.md`, variant 7)."""

import re
from collections.abc import Sequence

_NOT_A_LETTER_OR_DIGIT = re.compile(r"[^\w\0]+|_+")

_NAMES = {
    "serial_number": "device serial number, serial number, serial",
    "product_key": "windows product id, product id, product key, product key id, pkid",
    "hardware_hash": "hardware hash, hw hash, 4k hh, hardware identifier",
    "manufacturer": "manufacturer name, manufacturer, oem manufacturer name, make",
    "model": "device model, model, model name",
    "group_tag": "group tag",
    "customer_id": "customer id, customer tenant id, tenant id",
}
_FIELD_OF = {
    _NOT_A_LETTER_OR_DIGIT.sub("", name): field for field, names in _NAMES.items() for name in names.split(",")
}


def field_of(name: str) -> str | None:
    """The field of `Device` or `Row` that a column or member of this name holds; None if it means nothing to us."""
    return _FIELD_OF.get(_NOT_A_LETTER_OR_DIGIT.sub("", name).casefold())


def fields_in(names: Sequence[str]) -> set[str]:
    """The fields that columns of these names hold; quicker than one by one."""
    bare = _NOT_A_LETTER_OR_DIGIT.sub("", "\0".join(names)).casefold().split("\0")
    return {_FIELD_OF[name] for name in _FIELD_OF.keys() & bare}
