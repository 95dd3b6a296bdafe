"""Which reader a manifest wants: told by its content, never by its name."""

from collections.abc import Generator, Iterable

from shared.manifest.csv_format import read_csv
from shared.manifest.device import PlainRows, Row
from shared.manifest.findings import Code, Finding, Refused
from shared.manifest.json_format import Heading, read_json
from shared.manifest.text import open_text


def read_rows(chunks: Iterable[bytes]) -> Generator[Row | PlainRows | Finding | Heading]:
    """What the manifest holds, row by row, in its own order. Raises Refused where it is no manifest."""
    try:
        text, beginning = open_text(chunks)
        if beginning.startswith("<"):
            message = "The file is a web page or XML. Send the device list as CSV or JSON."
            raise Refused(Code.NOT_A_MANIFEST, message)
        yield from read_json(text) if beginning.startswith(("{", "[")) else read_csv(text)
    except UnicodeError as error:
        message = "The file holds bytes that are not text in its encoding. Save it as “CSV UTF-8” and drop it again."
        raise Refused(Code.UNREADABLE_TEXT, message) from error
