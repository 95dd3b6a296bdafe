"""Which reader a manifest wants: told by its content, never by its name."""

from collections.abc import Generator, Iterable

from shared.manifest.csv_format import read_csv
from shared.manifest.device import PlainRows, Row
from shared.manifest.findings import Finding
from shared.manifest.gzipped import unpacked
from shared.manifest.json_format import Heading, read_json
from shared.manifest.text import open_text
from shared.manifest.xml_format import read_xml


def read_rows(pieces: Iterable[bytes], max_bytes: int) -> Generator[Row | PlainRows | Finding | Heading]:
    """What the manifest holds, row by row, in its own order. Raises Refused where it is no manifest.

    `max_bytes` bounds what is inside a gzip archive; `pieces` themselves are for the caller to bound.
    """
    text, beginning = open_text(unpacked(pieces, max_bytes))
    if beginning.startswith("<"):
        yield from read_xml(text)
    elif beginning.startswith(("{", "[")):
        yield from read_json(text)
    else:
        yield from read_csv(text)
