"""What is wrong with a manifest, in words its supplier understands.

The codes are stable: suppliers' scripts read them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

QUOTED_AT_MOST = 64
_LOOKS_LIKE_A_HASH = re.compile(r"[A-Za-z0-9+/=_-]{40,}")


class Code(StrEnum):
    """Finding codes. Those in `WARNINGS` never keep a device back."""

    UNREADABLE_TEXT = "unreadable-text"
    NOT_A_MANIFEST = "not-a-manifest"
    EMPTY_MANIFEST = "empty-manifest"
    UNKNOWN_COLUMNS = "unknown-columns"
    RAGGED_ROW = "ragged-row"
    UNIDENTIFIED_DEVICE = "unidentified-device"
    UNKNOWN_CUSTOMER = "unknown-customer"
    CUSTOMER_MISMATCH = "customer-mismatch"
    MISSING_BATCH_ID = "missing-batch-id"
    INVALID_BATCH_ID = "invalid-batch-id"
    BATCH_NOT_ALLOWED = "batch-not-allowed"
    MANIFEST_TOO_LARGE = "manifest-too-large"
    TOO_MANY_DEVICES = "too-many-devices"
    TOO_MANY_BATCHES = "too-many-batches"
    TOO_MANY_BAD_ROWS = "too-many-bad-rows"
    INVALID_VALUE = "invalid-value"
    PLACEHOLDER_VALUE = "placeholder-value"
    DAMAGED_BY_SPREADSHEET = "damaged-by-spreadsheet"
    HASH_NOT_BASE64 = "hash-not-base64"
    HASH_TRUNCATED = "hash-truncated"
    HASH_CORRUPT = "hash-corrupt"
    HASH_MISMATCH = "hash-mismatch"
    HASH_UNVERIFIED = "hash-unverified"
    HASH_PADDED = "hash-padded"
    HASH_NAMES_OTHER_MODEL = "hash-names-other-model"
    CONFLICTING_DUPLICATE = "conflicting-duplicate"
    PRODUCT_KEY_FORMAT = "product-key-format"
    DUPLICATE_DEVICE = "duplicate-device"
    GUESSED_COLUMNS = "guessed-columns"
    IGNORED_COLUMN = "ignored-column"
    IGNORED_ROW = "ignored-row"

    REFUSED_BY_PARTNER_CENTER = "refused-by-partner-center"
    CUSTOMER_NOT_FOUND = "customer-not-found"


WARNINGS = frozenset(
    {
        Code.HASH_UNVERIFIED,
        Code.HASH_PADDED,
        Code.HASH_NAMES_OTHER_MODEL,
        Code.PRODUCT_KEY_FORMAT,
        Code.DUPLICATE_DEVICE,
        Code.GUESSED_COLUMNS,
        Code.IGNORED_COLUMN,
        Code.IGNORED_ROW,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about a manifest.

    `row` is the line a text editor shows (in JSON: the element, from 1), or None where the whole file is meant.
    `strict` makes an error of what is otherwise a warning.
    """

    code: Code
    message: str
    row: int | None = None
    column: str = ""
    strict: bool = False

    @property
    def severity(self) -> str:
        return "error" if self.is_error else "warning"

    @property
    def is_error(self) -> bool:
        return self.strict or self.code not in WARNINGS

    def as_json(self) -> dict[str, object]:
        """The shape that reports and messages carry."""
        return {
            "row": self.row,
            "column": self.column,
            "code": str(self.code),
            "severity": self.severity,
            "message": self.message,
        }


class Refused(Exception):
    """The manifest as a whole cannot be taken; `finding` says why."""

    def __init__(self, code: Code, message: str, row: int | None = None, column: str = "") -> None:
        super().__init__(message)
        self.finding = Finding(code, message, row, column)


def without_hashes(text: str) -> str:
    """`text` with everything shaped like a hardware hash left out.

    A hash names a device's network card, disk and TPM, so no report or message may hold one.
    """
    return _LOOKS_LIKE_A_HASH.sub("(hash)", text)


def printable(text: str) -> str:
    """`text` with a mark for everything that no font shows, and that may do something else instead."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shortened(value: str) -> str:
    """`value` fit to be shown to its sender: short, on one line, and never a hardware hash."""
    shown = printable(without_hashes(value[: QUOTED_AT_MOST * 4]))
    return f"{shown[: QUOTED_AT_MOST - 1]}…" if len(shown) > QUOTED_AT_MOST else shown


def quote(value: str) -> str:
    """`value`, shortened, in quotation marks."""
    return f"“{shortened(value)}”"


def in_words(names: Iterator[str] | list[str], last: str = "and") -> str:
    """`["a", "b", "c"]` as `a, b and c`."""
    *head, tail = names
    return f"{', '.join(head)} {last} {tail}" if head else tail
