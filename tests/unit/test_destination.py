"""For whom a manifest is, and into which batch its devices go."""

import json

import pytest

from shared.customers import parse_customers
from shared.manifest import Refused, find_destination
from tests.unit.builders import CUSTOMER, destination, devices, json_of, read, reason, said

OTHER = "47021739-3426-40bf-9601-61b4b6d7c793"
WAYS = ["document", "row", "folder", "metadata", "customer", "setting"]


def find(path: str, entries: object) -> str:
    return find_destination(path, {}, parse_customers(json.dumps(entries))).customer_id


@pytest.mark.parametrize("first", range(len(WAYS)), ids=WAYS)
def test_batch_is_the_first_that_is_named(first: int) -> None:
    """Document, row, folder, metadata, customer, setting: the first of them that names a batch decides."""
    there = WAYS[first:]
    to = destination(
        f"contoso/{'batch=folder/' * ('folder' in there)}list.json",
        {"batchid": "metadata"} if "metadata" in there else {},
        "setting",
        **({"batchId": "customer"} if "customer" in there else {}),
    )
    device = {"ProductKey": "1"} | ({"GroupTag": "row"} if "row" in there else {})
    manifest = read(json_of([device], **({"BatchId": "document"} if "document" in there else {})), to)
    assert manifest.batches == {there[0]: 1}


@pytest.mark.parametrize(
    "to",
    [
        {"metadata": {"BatchId": "  "}, "batchId": "customer"},
        {"path": "contoso/batch= /list.csv", "batchId": "customer"},
        {"batchId": " ", "default_batch": "customer"},
    ],
    ids=["metadata", "folder", "customer"],
)
def test_blank_batch_names_nothing(to: dict[str, object]) -> None:
    """White space where a batch could stand leaves the word to the next way of naming one."""
    assert read("Product ID\n1\n", destination(**to)).batches == {"customer": 1}


def test_missing_batch_says_the_ways_to_name_one() -> None:
    """Where nothing names a batch none is invented, and the supplier reads how to name one."""
    manifest = read("Product ID\n1\n", destination(default_batch=""))
    assert reason(manifest) == "missing-batch-id"
    assert devices(manifest) == []
    for way in ("Group Tag", "BatchId", "batch=", "batchid"):
        assert way in said(manifest)


def test_row_without_tag_is_held_back_alone() -> None:
    """Where only some rows name a batch, the others are held back."""
    manifest = read("Product ID,Group Tag\n1,A\n2,\n", destination(default_batch=""), bad_rows_allowed=50)
    assert manifest.batches == {"A": 1}
    assert [v.goes for v in manifest.verdicts()] == [True, False]


@pytest.mark.parametrize("tag", ["a/b", "a\\b", "..", ".", "a\u200bb", "x" * 257])
def test_invalid_batch_id(tag: str) -> None:
    """A slash, a lone dot, an invisible character or more than 256 characters cannot be a batch id."""
    assert reason(read(f"Product ID,Group Tag\n1,{tag}\n")) == "invalid-batch-id"


@pytest.mark.parametrize("tag", ["x" * 256, "Test batch", "Zürich 東京", "a.b", "50 %"])
def test_valid_batch_id(tag: str) -> None:
    """Batches have free names."""
    assert read(f"Product ID,Group Tag\n1,{tag}\n").batches == {tag: 1}


def test_allowed_batches_are_spelt_as_the_list_spells_them() -> None:
    """A tag on the customer's list is taken in any letter case, and one that is not is refused with the list."""
    to = destination(batchIds=["Standard", "Kiosk"])
    assert read("Product ID,Group Tag\n1,KIOSK\n", to).batches == {"Kiosk": 1}
    refused = read("Product ID,Group Tag\n1,Lab\n", to)
    assert reason(refused) == "batch-not-allowed"
    assert "“Standard” or “Kiosk”" in said(refused)


def test_no_batch_allowed() -> None:
    """An empty list of batches allows none, not all."""
    assert reason(read("Product ID,Group Tag\n1,Lab\n", destination(batchIds=[]))) == "batch-not-allowed"


@pytest.mark.parametrize("folder", ["contoso", "CONTOSO", CUSTOMER, CUSTOMER.upper()])
def test_customer_is_found_by_folder_or_id_in_any_case(folder: str) -> None:
    """The first folder is the customer's name or id, in any letter case."""
    assert find(f"{folder}/deep/list.csv", {"Contoso": CUSTOMER, "fabrikam": OTHER}) == CUSTOMER


def test_anyone_may_be_served() -> None:
    """With an entry "*", any customer id is a folder's name, and an entry of its own goes before."""
    entries = {"contoso": {"customerId": CUSTOMER, "batchId": "own"}, "*": {"batchId": "any"}}
    customers = parse_customers(json.dumps(entries))
    found = [find_destination(f"{c}/list.csv", {}, customers) for c in (OTHER.upper(), CUSTOMER)]
    assert [(d.customer_id, d.default_batch) for d in found] == [(OTHER, "any"), (CUSTOMER, "own")]


@pytest.mark.parametrize(
    ("path", "entries"),
    [
        ("list.csv", {"contoso": CUSTOMER}),
        ("list.csv", {"*": {}}),
        ("fabrikam/list.csv", {"contoso": CUSTOMER}),
        (f"{OTHER}/list.csv", {"contoso": CUSTOMER}),
        ("fabrikam/list.csv", {"*": {}}),
        ("archive/contoso/list.csv", {"contoso": CUSTOMER}),
    ],
)
def test_nobodys_folder(path: str, entries: object) -> None:
    """A file outside the folders of known customers is refused, even in the container's root."""
    with pytest.raises(Refused) as refused:
        find(path, entries)
    assert refused.value.finding.code == "unknown-customer"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ('{"contoso": "no guid"}', "contoso"),
        ('{"contoso": {"batchId": "A"}}', "contoso"),
        (f'{{"contoso": {{"customerId": "{CUSTOMER}", "batchID": "A"}}}}', "batchID"),
        ('{"*": {"customerId": "x"}}', "customerId"),
        ('{"*": {"batchId": "a/b"}}', "“a/b” cannot be a batch id"),
        ('{"*": {"batchIds": ["A", "=A"]}}', "“=A” cannot be a batch id"),
        ('{"*": {"batchId": "B", "batchIds": ["A"]}}', "“B” is not a batch this folder may use"),
        ("[]", "CUSTOMERS"),
    ],
)
def test_wrong_entry_is_named(setting: str, named: str) -> None:
    """A mistake in CUSTOMERS is said with the entry or member it is in."""
    with pytest.raises(ValueError, match=named):
        parse_customers(setting)
