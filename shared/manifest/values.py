"""What stands in a field where a serial number or a product id belongs (`reference/manifests.md`)."""

import re
from collections.abc import Collection
from operator import methodcaller

# What firmware and exports say where there is nothing to say.
_PLACEHOLDERS = frozenset(
    {
        *("system serial number", "to be filled by o.e.m.", "to be filled by oem", "default string", "invalid"),
        *("none", "null", "n/a", "unknown", "not specified", "not applicable", "not available", "123456789"),
    }
)
_UNFILLED_TEMPLATE = re.compile(r"<[^<>]*>|\{[^{}]*\}")
# 3.31E+12, an error, a column too narrow, a formula, the mark of a text, quotation marks that a word processor curled.
_OF_A_SPREADSHEET = re.compile(
    r"\d+(?:[.,]\d+)?E\+\d+|#(?:#+|N/A|(?:REF|VALUE|NULL|NUM|DIV/0)!|NAME\?)|[='“”„«].*", re.IGNORECASE
)
_without_zeros = methodcaller("strip", "0-")
LONGEST_CELL = 32_767  # of Excel's; what is longer is cut there
_PRODUCT_ID = re.compile(
    r"\d{12,13}"  # as OEMs inject it, and as Microsoft's template has it
    r"|\d{5}-\d{5}-(?:\d{4}|\d{5})-[A-Z0-9]{5}"  # 00329-00000-0003-AA606
    r"|\d{5}(?:-\d{5}){4}",
    re.IGNORECASE | re.ASCII,
)
_NO_SIGN_OF_ONE = re.compile(r"[^\w -]")  # of a product id: 3312345678901.0, 3312345678901;S-1, Total: 12
_LICENCE_KEY = re.compile(r"[A-Z0-9]{5}(?:-[A-Z0-9]{5}){4}", re.IGNORECASE)
_PRODUCT_NAME = re.compile(
    r"(?:microsoft\s*)?win(?:dows)?\b.*|.*\b(?:pro|home|enterprise|education)\b.*", re.IGNORECASE
)


def is_legible(text: str) -> bool:
    """Whether a font shows all of it, and nothing was lost of it before it came: U+FFFD stands where something was."""
    return text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text


def is_placeholder(value: str) -> bool:
    """Whether it says as much as nothing: it identifies no device, and Microsoft is not told of it."""
    return (
        value.casefold() in _PLACEHOLDERS
        or not _without_zeros(value)
        or (value[0] in "<{" and bool(_UNFILLED_TEMPLATE.fullmatch(value)))
    )


def is_damaged(value: str) -> bool:
    """Whether a spreadsheet left something else of it than it was."""
    return bool(_OF_A_SPREADSHEET.fullmatch(value))


def are_sound(values: Collection[str]) -> bool:
    """Whether none of them is a placeholder or damaged, told of all at once; it may say no where each is sound."""
    together = "".join(values)
    return (
        not any(sign in together for sign in "<{#='+“”„«")
        and _PLACEHOLDERS.isdisjoint(map(str.casefold, values))
        and all(map(_without_zeros, filter(None, values)))
    )


def is_product_id(value: str) -> bool:
    """Whether it has one of the shapes that product ids are known to have."""
    return bool(_PRODUCT_ID.fullmatch(value))


def is_no_product_id(value: str) -> bool:
    """Whether it is clearly none, as “Windows 11 Pro”, or the key that activates it."""
    return bool(_LICENCE_KEY.fullmatch(value) or _PRODUCT_NAME.fullmatch(value) or _NO_SIGN_OF_ONE.search(value))
