"""What goes to Partner Center, and what its answers mean."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from shared.faults import NobodysFault, OperatorsFault
from shared.manifest import Device
from shared.partner_center import (
    AppRegistration,
    AppUserTokens,
    BatchExists,
    BatchNotFound,
    BearerAuth,
    CustomerNotFound,
    PartnerCenter,
    RefreshToken,
    RequestRefused,
    render_device,
)
from shared.partner_center.client import _as_it_comes, _Body
from shared.partner_center.errors import ServiceError, raise_for_refusal
from shared.partner_center.tokens import AccessToken
from shared.partner_center.wire import tracking_uri
from tests.unit.builders import CUSTOMER

BASE = "https://api.partnercenter.microsoft.com"
REQUEST_ID = "c245d5f2-1de3-4ae0-9e42-95e38e3cb8ff"
JOB = f"/customers/{CUSTOMER}/batchJobStatus/beba2053-5401-46ff-9223-7e841ed78fbf"
HTML = b"<html><body>502 Bad Gateway</body></html>"


class Service:
    """Answers with one response after the other (the last again), and keeps what it was asked."""

    def __init__(self, *answers: Callable[[], httpx.Response]) -> None:
        self.answers = list(answers) or [lambda: httpx.Response(202, headers={"Location": JOB})]
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        # A copy: the one request is changed and sent again after a 401.
        copy = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
        self.asked.append(copy)
        return self.answers.pop(0)() if len(self.answers) > 1 else self.answers[0]()

    def http(self, auth: httpx.Auth | None = None) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self), auth=auth)

    def client(self) -> PartnerCenter:
        return PartnerCenter(BASE, httpx.Auth(), http=self.http())


class Tokens:
    """A new token whenever the one it gave was refused."""

    def __init__(self) -> None:
        self.given = 1

    def get(self, *, instead_of: str = "") -> str:
        if instead_of == f"token-{self.given}":
            self.given += 1
        return f"token-{self.given}"

    def forget(self, value: str) -> None:
        self.get(instead_of=value)


def array(*devices: Device) -> bytes:
    return b"[" + b",".join(map(render_device, devices)) + b"]"


def answer(status: int, body: object = None, phrase: str = "", headers: dict[str, str] | None = None) -> httpx.Response:
    """As it comes from a socket: a stream that was not read yet."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    extensions = {"reason_phrase": phrase.encode()} if phrase else {}
    return httpx.Response(status, content=iter([content]), extensions=extensions, headers=headers)


def meaning(response: httpx.Response, *, appending: bool = False) -> Exception:
    """What `response` is taken for."""
    response.read()
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one it is, the tests say
        raise_for_refusal(response, appending=appending, request_id=REQUEST_ID, correlation_id="c")
    return raised.value


# What we send


def test_creation_is_the_documented_request(samples: Path) -> None:
    """A creation is the documentation's request, member for member: address, headers and body."""
    service = Service()
    device = Device("1R9-ZNP67", "00329-00000-0003-AA606", "DummyHash123")
    service.client().create_batch(CUSTOMER, "SDKTestDeviceBatch", array(device), REQUEST_ID)
    (request,) = service.asked
    head, _, body = (samples / "create_batch.request.http").read_text().partition("{")
    assert json.loads(request.content) == json.loads("{" + body)
    first, *lines = head.strip().splitlines()
    documented = dict(line.split(": ", 1) for line in lines)
    assert f"{request.method} {request.url} HTTP/1.1" == first
    for name in ("Accept", "MS-RequestId", "X-Locale", "Content-Type", "Host"):
        assert request.headers[name] == documented[name]
    assert request.headers["MS-PartnerCenter-Application"] == "Autopilot Drop"


def test_append_is_the_documented_request(samples: Path) -> None:
    """An append is a bare array to the batch's address."""
    service = Service()
    devices = [Device("2R9-ZNP67", "00329-00000-0003-AA606", f"DummyHash{n}") for n in (1234, 12345)]
    service.client().add_devices(CUSTOMER, "Test", array(*devices), REQUEST_ID)
    (request,) = service.asked
    assert json.loads(request.content) == json.loads((samples / "add_devices_to_batch.request.json").read_text())
    assert str(request.url) == f"{BASE}/v1/customers/{CUSTOMER}/deviceBatches/Test/devices"


def test_tuple_carries_manufacturer_and_model() -> None:
    """Manufacturer and model are sent under Partner Center's names, and what is not given is null."""
    sent = json.loads(render_device(Device("S", manufacturer="Contoso é", model='14"')))
    assert (sent["OemManufacturerName"], sent["ModelName"], sent["SerialNumber"]) == ("Contoso é", '14"', "S")
    assert (sent["ProductKey"], sent["HardwareHash"]) == (None, None)


@pytest.mark.parametrize("batch", ["Test batch", "a/b?c#d%", "Zürich 東京", "..", '"'])
def test_any_batch_id_reaches_its_address_and_its_body(batch: str) -> None:
    """A batch's free name is escaped in the address of an append and in the body of a creation."""
    service = Service()
    service.client().create_batch(CUSTOMER, batch, b"[]", REQUEST_ID)
    assert json.loads(service.asked[0].content)["BatchId"] == batch
    service.client().add_devices(CUSTOMER, batch, b"[]", REQUEST_ID)
    segments = service.asked[1].url.raw_path.decode().split("/")
    if batch != "..":  # never a batch id: reading refuses it
        assert (len(segments), httpx.URL(f"x:{segments[5]}").path) == (7, batch)


def test_every_call_has_its_own_correlation_id() -> None:
    """A request keeps its id when it is repeated; each call is correlated on its own."""
    service = Service()
    given = [service.client().create_batch(CUSTOMER, "A", b"[]", REQUEST_ID) for _ in range(2)]
    assert [r.headers["MS-RequestId"] for r in service.asked] == [REQUEST_ID] * 2
    assert [r.headers["MS-CorrelationId"] for r in service.asked] == [g.correlation_id for g in given]
    assert given[0].correlation_id != given[1].correlation_id


@pytest.mark.parametrize("name", ["list_batches.docs.json", "list_batches.recorded.json"])
def test_batches_are_found_without_case(samples: Path, name: str) -> None:
    """The customer's batches are known by any spelling, and keep Partner Center's."""
    data = (samples / name).read_bytes()
    batch = json.loads(data)["items"][0]["id"]
    assert Service(lambda: answer(200, data)).client().batches(CUSTOMER) == {batch.casefold(): batch}


# Location


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (JOB, f"{BASE}/v1{JOB}"),
        (JOB[1:], f"{BASE}/v1{JOB}"),
        (f"/v1{JOB}", f"{BASE}/v1{JOB}"),
        (f"/V1{JOB}", f"{BASE}/V1{JOB}"),
        (f"{BASE}/v1{JOB}", f"{BASE}/v1{JOB}"),
        (f"https://API.PartnerCenter.microsoft.com{JOB}", f"{BASE}/v1{JOB}"),
        (f"{JOB}?a=1", f"{BASE}/v1{JOB}?a=1"),
        ("/customers/März 1/%20?a=<1>", f"{BASE}/v1/customers/M%C3%A4rz%201/%20?a=%3C1%3E"),
        (f"https://elsewhere.example{JOB}", None),
        (f"//elsewhere.example{JOB}", None),
        (f"http://api.partnercenter.microsoft.com{JOB}", None),
        (f"{BASE}@elsewhere.example{JOB}", None),
        ("https://[broken/customers", None),
        (None, None),
        ("", None),
    ],
)
@pytest.mark.parametrize("base", [BASE, f"{BASE}/"])
def test_tracking_uri(base: str, location: str | None, expected: str | None) -> None:
    """Every shape of Location leads to one address on Partner Center's own host, or to none."""
    assert tracking_uri(base, location) == expected


@pytest.mark.parametrize("location", [JOB, "https://elsewhere.example/x", "https://[broken/x", "no sense at all"])
def test_location_is_kept_verbatim(location: str) -> None:
    """Whatever the header says, an accepted request is accepted, and the header is kept as it came."""
    service = Service(lambda: answer(202, headers={"Location": location}))
    accepted = service.client().create_batch(CUSTOMER, "A", b"[]", REQUEST_ID)
    assert (accepted.location, accepted.request_id) == (location, REQUEST_ID)


@pytest.mark.parametrize("headers", [{}, {"Location": ""}, {"Location": "/" + "x" * 2_048}])
def test_no_location_worth_keeping(headers: dict[str, str]) -> None:
    """An answer without a Location, or with one beyond all measure, is a success without one."""
    accepted = Service(lambda: answer(202, headers=headers)).client().create_batch(CUSTOMER, "A", b"[]", REQUEST_ID)
    assert (accepted.location, accepted.tracking_uri) == (None, None)


# Refusals


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_raises_nothing(status: int) -> None:
    """Any 2xx is a success."""
    raise_for_refusal(answer(status), appending=False, request_id=REQUEST_ID, correlation_id="c")


@pytest.mark.parametrize(
    ("status", "code", "appending", "kind"),
    [
        *((400, code, a, RequestRefused) for code in ("3000", "800002", "900118", "") for a in (False, True)),
        *((403, code, False, OperatorsFault) for code in ("2032", "20002", "600006", "900149", "900150", "1002", "")),
        *((404, code, False, CustomerNotFound) for code in ("1000", "60003", "")),
        *((404, code, True, BatchNotFound) for code in ("1000", "60003", "")),
        (409, "", False, BatchExists),
        (409, "", True, NobodysFault),
        *((status, "", a, NobodysFault) for status in (408, 429, 500, 502, 503, 504) for a in (False, True)),
        (302, "", False, NobodysFault),
        (405, "", False, RequestRefused),
        (413, "", False, RequestRefused),
    ],
)
@pytest.mark.parametrize("shape", ["documented", "Pascal", "plain", "html", "empty"])
def test_whose_fault_it_is(status: int, code: str, appending: bool, kind: type[Exception], shape: str) -> None:
    """Whose fault an answer is follows from its status and the call, in whatever shape its body comes."""
    body = {
        "documented": {"code": code, "description": "It says why.", "data": [], "source": "x"},
        "Pascal": {"ErrorCode": code, "Message": "It says why."},
        "plain": b"It says why.",
        "html": HTML,
        "empty": None,
    }[shape]
    raised = meaning(answer(status, body), appending=appending)
    assert type(raised) is kind
    if isinstance(raised, RequestRefused):
        assert (raised.request_id, raised.correlation_id) == (REQUEST_ID, "c")
    if shape == "documented":
        assert "It says why." in str(raised)


@pytest.mark.parametrize("text", ["A batch with this id already exists.", "Batch ALREADY EXISTS"])
def test_400_that_says_the_batch_exists(text: str) -> None:
    """A creation refused because the batch exists is no refusal: the devices are appended."""
    body = {"code": "3000", "description": text}
    assert type(meaning(answer(400, body))) is BatchExists
    assert type(meaning(answer(400, body), appending=True)) is RequestRefused


MFA_SHAPES = [
    {"body": {"code": "900421", "description": "x"}},
    {"body": {"code": 10001, "description": "x"}},
    {"body": {"code": "", "description": "MFA required"}},
    {"phrase": "Unauthorized - MFA required"},
    {"body": b"Unauthorized", "phrase": "Unauthorized - MFA required"},
    {"body": HTML, "phrase": "Unauthorized - MFA required"},
]


@pytest.mark.parametrize("shape", MFA_SHAPES)
def test_missing_mfa_is_the_operators_to_mend(shape: dict[str, Any]) -> None:
    """A token without MFA is told as that, in each shape it was seen in."""
    raised = meaning(answer(401, **shape))
    assert isinstance(raised, OperatorsFault)
    assert raised.problem == "mfa-required"


def test_other_401_with_a_fresh_token_is_the_operators_to_mend() -> None:
    """A 401 that a fresh token did not cure wants a person."""
    raised = meaning(answer(401, {"code": "1", "description": "expired"}))
    assert isinstance(raised, OperatorsFault)
    assert raised.problem == "partner-center-unauthorized"


def test_recorded_refusals(samples: Path) -> None:
    """The recorded 401 without MFA and the recorded throttle are understood."""
    phrase = (samples / "error.401_mfa_required.response.http").read_text().splitlines()[0].split(" ", 2)[2]
    raised = meaning(answer(401, phrase=phrase))
    assert isinstance(raised, OperatorsFault)
    assert raised.problem == "mfa-required"
    body = (samples / "error.429.body.json").read_bytes()
    throttled = meaning(answer(429, body, headers={"Retry-After": "57"}))
    assert isinstance(throttled, NobodysFault)
    assert throttled.retry_after == 57
    assert "Try again in 57 seconds" in str(throttled)


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "Sun, 22 Nov 2026 10:00:00 GMT", "9" * 30])
def test_nonsense_in_retry_after_counts_as_none(value: str) -> None:
    """Only a number of seconds is waited for."""
    raised = meaning(answer(503, headers={"Retry-After": value}))
    assert isinstance(raised, NobodysFault)
    assert raised.retry_after is None


@pytest.mark.parametrize(
    ("body", "code", "description"),
    [
        (HTML, "", "Bad Request"),
        (b"It went wrong", "", "It went wrong"),
        (b"", "", "Bad Request"),
        (b"[1]", "", "[1]"),
        (b'{"code": null, "description": null}', "", "Bad Request"),
        (b"\xff\xfe\x00", "", None),
        (b'{"code": "' + b"9" * 999 + b'", "description": "' + b"x " * 999 + b'"}', "9" * 64, "x " * 250),
    ],
)
def test_error_of_any_shape(body: bytes, code: str, description: str | None) -> None:
    """An error is read from any body: HTML says nothing, and what is long is cut."""
    error = ServiceError.of(httpx.Response(400, content=body))
    assert (error.status, error.code) == (400, code)
    assert description in (None, error.description)
    assert re.match("HTTP 400", str(error))


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x")])
def test_no_answer_is_nobodys_fault(error: Exception) -> None:
    """Where the network fails, nobody is to blame."""

    def fail() -> httpx.Response:
        raise error

    with pytest.raises(NobodysFault, match="No answer"):
        Service(fail).client().create_batch(CUSTOMER, "A", b"[]", REQUEST_ID)


def test_what_broke_is_told_without_what_was_in_it() -> None:
    """The words of a broken exchange quote the header that broke it, whatever is in it and however long."""
    for quoted in ("Bearer 1.refresh\n", "Location: /x?t=eyJhbGciOi.eyJzdWIi.c2ln" + "\x1b" * 60_000):

        def fail(quoted: str = quoted) -> httpx.Response:
            raise httpx.RemoteProtocolError(f"illegal header line: {quoted}")

        with pytest.raises(NobodysFault) as raised:
            Service(fail).client().create_batch(CUSTOMER, "A", b"[]", REQUEST_ID)
        assert not re.search("refresh|c2ln|\x1b|.{600}", str(raised.value))


def test_an_endless_description_is_read_in_no_time() -> None:
    """However hostile its text."""
    ServiceError.of(httpx.Response(400, content=b"eyJ" * 1_000_000))


@pytest.mark.parametrize("may_break_off", [False, True])
def test_an_answer_that_trickles_is_none_but_for_its_head(may_break_off: bool) -> None:
    """Each piece in time, and the whole not."""
    body = _Body(httpx.ByteStream(b"x"), may_break_off=may_break_off, longest=-1.0)
    with nullcontext() if may_break_off else pytest.raises(httpx.ReadError, match="no end"):
        list(body)


class BreaksOff(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b'{"code": "400", "description": "a batch that already exi'
        raise httpx.ReadError("reset")


@pytest.mark.parametrize(("method", "status"), [("POST", 400), ("GET", 200)])
def test_half_a_body_that_matters_is_no_answer(method: str, status: int) -> None:
    """Of a refusal, whose words tell what it is, or of a list."""
    response = httpx.Response(status, stream=BreaksOff(), request=httpx.Request(method, BASE))
    _as_it_comes(response)
    with pytest.raises(httpx.ReadError):
        response.read()


# The bearer token


@pytest.mark.parametrize(
    "url",
    [
        "http://api.partnercenter.microsoft.com/v1/x",
        "https://elsewhere.example/",
        f"{BASE}.evil.example/",
        f"{BASE}:8443/",
    ],
)
def test_token_goes_to_its_host_alone_and_over_tls(url: str) -> None:
    """A request to any other host, or in clear, is not made at all."""
    service = Service()
    with service.http(BearerAuth(Tokens(), BASE)) as http, pytest.raises(ValueError, match="PARTNER_CENTER_URL alone"):
        http.get(url)
    assert service.asked == []


def test_token_is_renewed_once() -> None:
    """After a 401 the request is sent again with a new token, the same otherwise; a second 401 stands."""
    service = Service(lambda: answer(401, {"code": "1"}), lambda: answer(202))
    with service.http(BearerAuth(Tokens(), BASE)) as http:
        assert http.post(f"{BASE}/v1/x", content=b"[]", headers={"MS-RequestId": REQUEST_ID}).status_code == 202
    assert [r.headers["Authorization"] for r in service.asked] == ["Bearer token-1", "Bearer token-2"]
    assert {(r.content, r.headers["MS-RequestId"]) for r in service.asked} == {(b"[]", REQUEST_ID)}

    stubborn = Service(lambda: answer(401, {"code": "1"}))
    with stubborn.http(BearerAuth(Tokens(), BASE)) as http:
        assert http.get(f"{BASE}/v1/x").status_code == 401
    assert len(stubborn.asked) == 2


@pytest.mark.parametrize("shape", MFA_SHAPES)
def test_token_without_mfa_is_not_renewed(shape: dict[str, Any]) -> None:
    """The next token would lack the MFA claim too, until somebody consents again; a later call has another."""
    service = Service(lambda: answer(401, **shape))
    with service.http(BearerAuth(Tokens(), BASE)) as http:
        for _ in range(2):
            assert http.get(f"{BASE}/v1/x").status_code == 401
    assert [r.headers["Authorization"] for r in service.asked] == ["Bearer token-1", "Bearer token-2"]


class SilentVault:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.answers = Event(), Event()

    def refresh_token(self) -> RefreshToken:
        self.asked.set()
        self.answers.wait(10)
        raise NobodysFault("No answer from the vault")

    def client_credential(self) -> str:
        return ""

    def store(self, rotated: str, instead_of: RefreshToken) -> bool:
        return False


class NoBell:
    def raise_for(self, fault: OperatorsFault) -> None: ...

    def resolve(self, problem_id: str) -> None: ...


def test_nobody_stands_in_line_behind_an_exchange_that_hangs() -> None:
    """Ten threads that each wait for the vault for five minutes, one after the other, would outlast the invocation."""
    vault = SilentVault()
    tokens = AppUserTokens(AppRegistration("https://login", "t", "c", BASE), vault, NoBell(), patience=0.01)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(tokens.get)
        vault.asked.wait(10)
        with pytest.raises(NobodysFault, match="still waits"):
            tokens.get()
        vault.answers.set()
        assert isinstance(first.exception(), NobodysFault)
    with pytest.raises(NobodysFault, match="vault"):
        tokens.get()


def test_repr_of_a_token_hides_it() -> None:
    """A token that gets into a log line by accident is not shown."""
    assert "secret" not in f"{AccessToken('secret', 1.0)!r} {AccessToken('secret', 1.0)}"
