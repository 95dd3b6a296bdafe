"""The plan: which requests a manifest makes, frozen before anything leaves."""

import json
import time
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.manifest import Code, Finding
from shared.plan import Plan, row_ranges
from shared.planning import plan_refusal
from tests.unit.builders import CUSTOMER, destination, draft, keys, rows_of, upload


def tagged(*tags: str) -> str:
    return "Product ID,Group Tag\n" + "".join(f"{n},{tag}\n" for n, tag in enumerate(tags, 1))


@given(
    tags=st.lists(st.sampled_from(["A", "B", "", "broken/tag", "twin"]), min_size=1, max_size=30),
    per_request=st.integers(1, 7),
)
def test_every_device_goes_into_one_request(tags: list[str], per_request: int) -> None:
    """Each good row is in exactly one request, of its batch, and no request holds more than it may."""
    good = {n: tag or "Standard" for n, tag in enumerate(tags, 1) if "/" not in tag}
    with draft(tagged(*tags), per_request=per_request, bad_rows_allowed=100) as made:
        sent: dict[int, str] = {}
        for part in made.plan.parts:
            data = made.read(part)
            assert sha256(data).hexdigest() == part.digest
            numbers = [int(d["ProductKey"]) for d in json.loads(data)]
            assert len(numbers) == part.device_count <= per_request
            assert numbers == [row - 1 for a, b in part.rows for row in range(a, b + 1)]
            assert not sent.keys() & numbers
            sent |= dict.fromkeys(numbers, part.batch_id)
        assert sent == good
        assert [p.number for p in made.plan.parts] == list(range(1, len(made.plan.parts) + 1))
        assert sum(made.plan.batches.values()) == made.plan.devices == len(good)


def test_request_ids_are_stable_and_distinct() -> None:
    """Planning an upload again gives the same request ids; each call and each upload has its own."""

    def ids(etag: str) -> list[str]:
        with draft(keys(1, 2, 3), of=upload(etag=etag), per_request=1) as made:
            return [i for p in made.plan.parts for i in (p.create_request_id, p.append_request_id)]

    assert ids("1") == ids("1")
    assert len({*ids("1"), *ids("2")}) == 12


def test_an_upload_is_one_version_of_one_blob() -> None:
    """Path and ETag name an upload, and nothing else does."""
    first = upload("a.csv", "1")
    assert first.key == upload("a.csv", "1", size=7, resubmit=True).key
    assert len({u.key for u in (first, upload("a.csv", "2"), upload("b.csv", "1"))}) == 3
    assert first.key.startswith(first.id)


def test_plan_survives_being_written_down() -> None:
    """What the ledger keeps of a plan is the whole plan."""
    with draft(keys(1, 2, 0, 2), per_request=1, bad_rows_allowed=50) as made:
        assert Plan.model_validate_json(made.plan.model_dump_json(exclude_defaults=True)) == made.plan


@pytest.mark.parametrize(
    ("data", "to", "verdict"),
    [
        (keys(1), {}, "accepted"),
        (keys(1, 1), {}, "accepted"),
        (keys(1, 2, 3, 4, 0), {}, "accepted-with-errors"),
        (keys(0), {}, "rejected"),
        (keys(0), {"dryRun": True}, "rejected"),
        (keys(1), {"dryRun": True}, "dry-run"),
    ],
)
def test_verdict(data: str, to: dict[str, object], verdict: str) -> None:
    """Warnings do not spoil a verdict, errors do, and a dry run says that it was one."""
    with draft(data, destination(**to)) as made:
        assert made.plan.verdict == verdict


def test_rejected_manifest_makes_no_request() -> None:
    """Of a manifest that is refused nothing is planned to be sent, however many of its rows are good."""
    with draft(keys(1, 0)) as made:
        plan = made.plan
        assert (plan.parts, plan.batches, plan.devices, plan.content_key) == ([], {}, 0, None)
        assert plan.refusal is not None


def test_unread_refusal() -> None:
    """An upload may be refused without being read; its CSV says why, as any other's does."""
    with plan_refusal(upload(), Finding(Code.UNKNOWN_CUSTOMER, "Nobody's.")) as made:
        assert (made.plan.verdict, made.plan.errors, made.plan.sha256) == ("rejected", 1, None)
        assert made.plan.report_csv is not None
        (line,) = rows_of(made.read(made.plan.report_csv))
    assert (line["code"], line["message"], line["verdict"]) == ("unknown-customer", "Nobody's.", "")


def test_content_key_names_content_customer_and_batches() -> None:
    """The same bytes for the same batches are the same content, wherever they lie; other batches make it another."""

    def key(data: str, name: str = "contoso/a.csv", batch: str = "Standard", customer: str = CUSTOMER) -> str | None:
        with draft(data, destination(default_batch=batch, customerId=customer), upload(name)) as made:
            return made.plan.content_key

    same = key(keys(1))
    assert same is not None
    assert key(keys(1), name="contoso/b.csv") == same
    other_customer = "47021739-3426-40bf-9601-61b4b6d7c793"
    others = {key(keys(2)), key(keys(1), batch="Kiosk"), key(keys(1), customer=other_customer)}
    assert len(others | {same}) == 4


@given(st.sets(st.integers(1, 60)).map(sorted))
def test_row_ranges_hold_exactly_the_rows(rows: list[int]) -> None:
    """Ranges are inclusive, in order, as few as can be, and hold the rows and no other."""
    ranges = row_ranges(rows)
    assert [row for a, b in ranges for row in range(a, b + 1)] == rows
    assert all(b + 1 < c for (_, b), (c, _) in pairwise(ranges))


def test_fifty_batches_cost_little_more_than_one() -> None:
    """However the rows of the batches are mixed, and however long their hashes are."""
    hashes = (f"{n:06d},QUJD{n:06d}{'A' * 3_990},T{n % 50}\n" for n in range(5_000))
    began = time.process_time()
    with draft("Serial,Hardware Hash,Group Tag\n" + "".join(hashes)) as made:
        assert [p.device_count for p in made.plan.parts] == [100] * 50
    assert time.process_time() - began < 2
