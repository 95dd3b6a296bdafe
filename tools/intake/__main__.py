"""`python -m tools.intake list|show|find|resume|resubmit|replay`. Exits with 0, 1 (not found) or 2 (could not run)."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from shared.ledger import Entry
from shared.settings import SettingsError
from tools.intake import act, look
from tools.intake.parts import Parts, open_account, with_file
from tools.intake.words import STATES, printable

_SHOWN = 50
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = with_file(environment, options.settings) if options.settings else environment
        code: int = options.command(open_account(settings), options)
    except look.NotFound as error:
        print(error, file=sys.stderr)
        return 1
    except act.NotNow as why:
        print(f"{printable(options.id)} {why}", file=sys.stderr)
        return 2
    except (SettingsError, look.Ambiguous) as error:
        print(error, file=sys.stderr)
        return 2
    except AzureError as error:
        print(_in_words(error), file=sys.stderr)
        return 2
    return code


def _list(parts: Parts, options: argparse.Namespace) -> int:
    shown = look.listed(parts, options.customer, options.state, options.since)
    count = 0
    for seen in islice(shown, options.limit or None):
        count += 1
        print(_line(seen.as_json()) if options.json else seen.line)
    if count == options.limit and not options.json:
        print(f"The newest {count}; --limit 0 shows all.", file=sys.stderr)
    return 0


def _show(parts: Parts, options: argparse.Namespace) -> int:
    seen = look.with_problem(parts, look.view(parts, look.one(parts, options.id)))
    print(_line(seen.as_json()) if options.json else "\n".join(seen.page))
    return 0


def _find(parts: Parts, options: argparse.Namespace) -> int:
    count = 0
    for seen, rows in look.found(parts, options.text):
        count += 1
        if options.json:
            print(_line(seen.as_json() | {"found": [row.as_json() for row in rows]}))
        else:
            print("\n".join([seen.line, *(f"    {row}" for row in rows)]))
    for upload in look.without_record(parts, options.text):
        count += 1
        if options.json:
            print(_line({"id": upload.id, "name": upload.name, "received": upload.received.isoformat(), "state": None}))
        else:
            name = printable(upload.name)
            begun = list(parts.ledger.unread(upload.key))
            then = f"It could not be read. Try: resume {upload.id}" if begun else "A sweep brings it in."
            print(f"{upload.received:%Y-%m-%d %H:%M}  {upload.id}  {'not read yet':<20}  {name}  {then}")
    if not count:
        raise look.NotFound(
            f"Nothing has “{printable(options.text)}” as its path, id, customer, serial or product key."
        )
    return 0


def _resume(parts: Parts, options: argparse.Namespace) -> int:
    unread = list(_to_read_again(parts, options))
    for key, name in unread:
        _say(options, key[:12], act.read_again(parts, key, name))
    entries = [] if unread and options.id else list(_to_resume(parts, options))
    for entry in entries:
        _say(options, entry.key[:12], act.resume(parts, entry))
    if not entries and not unread:
        raise look.NotFound("Nothing waits for that.")
    return 0


def _to_read_again(parts: Parts, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    if options.all_stalled or options.problem == "manifest-unread":
        yield from parts.ledger.unread("")
    elif options.id and (prefix := look.as_id(options.id)):
        yield from parts.ledger.unread(prefix)


def _to_resume(parts: Parts, options: argparse.Namespace) -> Iterator[Entry]:
    if options.id:
        yield look.one(parts, options.id)
    elif options.all_stalled:
        yield from act.stalled(parts)
    else:
        yield from act.stopped_by(parts, options.problem)


def _resubmit(parts: Parts, options: argparse.Namespace) -> int:
    entry = look.one(parts, options.id)
    seen, plan = act.resubmission(parts, entry)
    if not options.yes:
        raise act.NotNow(f"would be sent again: {act.would_resubmit(plan)}. To do it, add --yes")
    _say(options, entry.key[:12], act.resubmit(parts, seen, plan), as_=plan.upload.id)
    return 0


def _replay(parts: Parts, options: argparse.Namespace) -> int:
    entry = look.one(parts, options.id)
    _say(options, entry.key[:12], act.replay(parts, entry))
    return 0


def _say(options: argparse.Namespace, manifest_id: str, did: str, **more: str) -> None:
    print(_line({"id": manifest_id, "did": did} | more) if options.json else f"{manifest_id} {printable(did)}")


def _line(values: Mapping[str, object]) -> str:
    return json.dumps(values)


def _in_words(error: AzureError) -> str:
    if isinstance(error, ClientAuthenticationError):
        return "No token for the storage account, or one that it refuses. Run `az login`, and check your roles on it."
    if isinstance(error, ResourceNotFoundError):
        return "The app's containers or queues are not there. Is this the right account? Has the app run yet?"
    status = f" with HTTP {error.status_code}" if isinstance(error, HttpResponseError) and error.status_code else ""
    return f"The storage account did not do it{status} ({type(error).__name__}). Check its name, roles and firewall."


def _since(text: str) -> datetime:
    if ago := re.fullmatch(r"(\d{1,5})([mhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither like 2026-11-22 nor like 6h or 2d") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no count")
    return int(text)


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")  # as of a variable that is not set: all would be meant
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tools.intake", description="What is where and why, and how to set it going."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="a JSON object a line, for machines")
    common.add_argument("--settings", type=Path, metavar="FILE", help="a local.settings.json; else the environment")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", parents=[common], help="a line a manifest, newest first")
    listing.add_argument("--customer", default="", metavar="X", help="of this folder or customer id")
    listing.add_argument("--state", action="append", default=[], choices=STATES, help="in this state; may be repeated")
    listing.add_argument("--since", type=_since, metavar="WHEN", help="planned since 2026-11-22, or for 6h, 2d")
    listing.add_argument("--limit", type=_count, default=_SHOWN, metavar="N", help=f"at most, else {_SHOWN}; 0: all")
    listing.set_defaults(command=_list)

    show = commands.add_parser("show", parents=[common], help="all of one manifest")
    show.set_defaults(command=_show)
    find = commands.add_parser("find", parents=[common], help="where a file, device or customer is")
    find.add_argument("text", metavar="TEXT", help="of a path or id; a whole customer id, serial number or product key")
    find.set_defaults(command=_find)

    resume = commands.add_parser("resume", parents=[common], help="go on now")
    which = resume.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", type=_text, metavar="ID", help=_ID_HELP)
    which.add_argument("--all-stalled", action="store_true", help="all that are stalled")
    which.add_argument("--problem", type=_text, metavar="CODE", help="all that wait for this problem")
    resume.set_defaults(command=_resume)

    resubmit = commands.add_parser("resubmit", parents=[common], help="send again what was sent before")
    resubmit.add_argument("--yes", action="store_true", help="do it; else it is only said")
    resubmit.set_defaults(command=_resubmit)
    replay = commands.add_parser("replay", parents=[common], help="put its messages on the queues again")
    replay.set_defaults(command=_replay)
    for command in (show, resubmit, replay):
        command.add_argument("id", metavar="ID", help=_ID_HELP)
    return parser


_ID_HELP = "a manifest.id, the beginning of one, or a path"


if __name__ == "__main__":
    # A credential that is not there is no news: the next one is tried.
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        sys.exit(main(sys.argv[1:], os.environ))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
