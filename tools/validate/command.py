"""The command: arguments in; a page or a line of JSON for each file, and an exit code, out."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import BinaryIO
from uuid import UUID

from shared.manifest import Answer, Customer, Destination, Manifest, Rules, read_manifest
from tools.validate.page import DEFAULT_BATCH, Terminal, page

_STANDARD_INPUT = "-"
_CHUNK = 1024 * 1024
_PROGRESS_EVERY = 1.0  # seconds
_NOBODY = UUID(int=0)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Says of each file what would become of it; returns the exit code."""
    options = _parser().parse_args(arguments)
    terminal = _terminal(environment)
    return max([_validate(name, options, terminal) for name in options.files])


def _validate(name: str, options: argparse.Namespace, terminal: Terminal) -> int:
    try:
        with _opened(name) as file, read_manifest(_chunks(file), _destination(options), Rules()) as manifest:
            answer = replace(Answer.to(manifest), customer_id=options.customer and str(options.customer))
            if options.format == "json":
                print(json.dumps(_report(name, manifest.sha256, answer)), flush=True)
            else:
                print(*page(name, answer, _bad_rows(manifest), terminal), "", sep="\n", flush=True)
            return int(not manifest.is_accepted or (options.strict and manifest.errors > 0))
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"{name} cannot be read: {error.strerror}", file=sys.stderr)
        return 2


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if name == _STANDARD_INPUT else Path(name).open("rb")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """The file, piece by piece; a terminal is told how far it is, once that takes more than a second."""
    size, done, told = os.fstat(file.fileno()).st_size, 0, monotonic()
    shown = ""
    while chunk := file.read(_CHUNK):
        yield chunk
        done += len(chunk)
        if sys.stderr.isatty() and monotonic() - told > _PROGRESS_EVERY:
            told = monotonic()
            part = f", {done / size:.0%}" if size else ""
            shown = f"{done / _CHUNK:,.0f} MB read{part}".ljust(len(shown))
            print(f"\r{shown}", end="", file=sys.stderr, flush=True)
    if shown:
        print(f"\r{' ' * len(shown)}\r", end="", file=sys.stderr, flush=True)


class _OfAnyCustomer(Destination):
    """Where nobody said whose folder it will be, the file may name any customer."""

    def is_customer(self, claimed: str) -> bool:
        try:
            return not claimed or bool(UUID(claimed))
        except ValueError:
            return False


def _destination(options: argparse.Namespace) -> Destination:
    batch = DEFAULT_BATCH if options.batch is None else options.batch.strip()
    if options.customer:
        return Destination(Customer(options.customer), batch)
    return _OfAnyCustomer(Customer(_NOBODY), batch)


def _bad_rows(manifest: Manifest) -> int:
    return sum(v.is_bad for v in manifest.verdicts()) if manifest.errors else 0


def _report(name: str, sha256: str, answer: Answer) -> dict[str, object]:
    """The members of `….report.json`, null where only a drop can tell."""
    batches: list[dict[str, object]] = [
        {"batchId": None if batch == DEFAULT_BATCH else batch, "devices": devices, "locations": []}
        for batch, devices in answer.batches.items()
    ]
    return {
        "manifest": {"id": None, "container": None, "name": name, "etag": None, "sha256": sha256, "received": None},
        "updated": None,
        "state": None,
        **answer.as_json({}),
        "batches": batches,
    }


def _terminal(environment: Mapping[str, str]) -> Terminal:
    # The console of Windows before its Terminal shows escapes as they are.
    knows_escapes = os.name != "nt" or "WT_SESSION" in environment
    has_colours = sys.stdout.isatty() and knows_escapes and not environment.get("NO_COLOR")
    return Terminal(max(shutil.get_terminal_size((120, 24)).columns, 60), has_colours)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "validate",
        description="What would become of device manifests, by the code that will read them. Nothing leaves this "
        "machine. What the partner allows may differ a little: here 20 % of the rows may be bad.",
        epilog="Exits with 0: each file would be accepted, with or without bad rows; 1: one would be rejected; 2: one "
        "could not be read.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a manifest; - is standard input")
    parser.add_argument(
        "--batch", metavar="TAG", help="for rows that name none; else the customer’s default is assumed"
    )
    parser.add_argument("--customer", type=_customer, metavar="ID", help="a file that names another one is wrong")
    parser.add_argument(
        "--format", choices=["text", "json"], default="text", help="json: a line for each file, of the report’s members"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 on any error, also of a single row")
    return parser


def _customer(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no customer id, like 47021739-3426-40bf-9601-61b4b6d7c793"
        ) from None
