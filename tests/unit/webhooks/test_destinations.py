"""Nothing is sent but to addresses that were checked: literal, resolved, rebound, translated or tunnelled."""

import asyncio
import ipaddress
import ssl
from collections.abc import Iterator, Sequence

import pytest

from app.settings import Settings, WebhookNetwork
from app.webhooks.destinations import Destinations, NoAllowedAddress, URLRefused, is_public
from app.webhooks.posting import Answer, Poster, trusted
from tests.tls_servers import Authority, make_authority
from tests.webhook_receiver import Receiver, Reply

NAME = "hooks.example.test"
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::8.8.8.8"]
# From IANA's registries of special-purpose addresses, and what clouds answer on.
NOT_PUBLIC = [
    *("0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1"),
    *("203.0.113.7", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fe80::1", "fe80::1%1", "fec0::1"),
    *("fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8"),
    *("2002:7f00:1::", "2002:808:808::", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_public_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_all_other_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/", "https_required"),
        ("ftp://example.com/", "https_required"),
        ("example.com", "https_required"),
        ("//example.com/", "https_required"),
        ("", "https_required"),
        ("https:///path", "invalid_url"),
        ("https://user@example.com/", "invalid_url"),
        ("https://user:secret@example.com/", "invalid_url"),
        ("https://8.8.8.8@127.0.0.1/", "invalid_url"),
        ("https://example.com/#part", "invalid_url"),
        ("https://exa mple.com/", "invalid_url"),
        ("https://example.com/\r\nHost: x", "invalid_url"),
        ("https://example.com:x/", "invalid_url"),
        ("https://2130706433/", "invalid_url"),
        ("https://0x7f000001/", "invalid_url"),
        ("https://127.1/", "invalid_url"),
        ("https://0177.0.0.1/", "invalid_url"),
        ("https://example.com:8443/", "port_not_allowed"),
        ("https://example.com:22/", "port_not_allowed"),
        ("https://127.0.0.1/", "address_not_allowed"),
        ("https://[::1]/", "address_not_allowed"),
        ("https://[::ffff:10.0.0.1]/", "address_not_allowed"),
        ("https://169.254.169.254/latest/meta-data", "address_not_allowed"),
    ],
)
def test_urls_that_are_refused_when_they_are_given(url: str, code: str) -> None:
    with pytest.raises(URLRefused) as refused:
        Destinations([]).read(url)
    assert refused.value.code == code


def test_a_url_is_taken_apart_once() -> None:
    target = Destinations([]).read("https://Hooks.Example.COM/a%20b?c=d")
    assert (target.host, target.port, target.path) == ("hooks.example.com", 443, b"/a%20b?c=d")
    assert target.authority == "hooks.example.com"
    assert Destinations([]).read("https://bücher.example").host == "xn--bcher-kva.example"
    assert Destinations([]).read("https://[2606:4700::1111]/").authority == "[2606:4700::1111]"


def test_networks_of_ones_own_have_their_port_only() -> None:
    networks = Settings(webhook_networks="10.1.0.0/16, 10.2.0.0/16:8443,fd00:1::/64:9443").webhook_networks
    assert networks == [
        WebhookNetwork.read(each) for each in ("10.1.0.0/16", "10.2.0.0/16:8443", "fd00:1::/64:9443")
    ]
    destinations = Destinations(networks)
    for url in (
        "https://10.1.2.3/",
        "https://10.2.3.4:8443/",
        "https://[fd00:1::5]:9443/",
        "https://8.8.8.8/",
    ):
        destinations.read(url)
    for url in (
        "https://10.2.3.4/",
        "https://10.1.2.3:8443/",
        "https://8.8.8.8:8443/",
        "https://[fd00:2::5]:9443/",
    ):
        with pytest.raises(URLRefused):
            destinations.read(url)
    for wrong in ("10.1.0.0", "10.1.0.1/16", "10.0.0.0/8:0", "10.0.0.0/8:x", "x/8"):
        with pytest.raises(ValueError, match="webhook_networks"):
            Settings(webhook_networks=wrong)


class Names:
    """A resolver that gives one answer after another, as one that somebody else controls."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        answer = self.answers.pop(0)
        if not answer:
            raise OSError("no such name")
        return answer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("webhooks") / "authority", server_names=[NAME])


@pytest.fixture
def receiver(authority: Authority) -> Iterator[Receiver]:
    with Receiver(authority) as receiver:
        yield receiver


def poster(receiver: Receiver, names: Names, *, timeout: float = 5) -> Poster:
    destinations = Destinations([receiver.network], names)
    return Poster(destinations, trusted(receiver.authority.certificate), timeout)


async def post(poster: Poster, receiver: Receiver, host: str = NAME) -> Answer:
    return await poster.post(f"https://{host}:{receiver.port}/hook?a=b", {"webhook-id": "x"}, "{}")


async def test_one_lookup_and_a_connection_to_its_answer(receiver: Receiver) -> None:
    """Nobody but these answers knows the name, which the certificate is checked against and `Host` says."""
    names = Names(["127.0.0.1"])
    assert await post(poster(receiver, names), receiver) == Answer(204)
    assert names.asked == [(NAME, receiver.port)]
    (received,) = receiver.received
    assert (received.server_name, received.headers["host"]) == (NAME, f"{NAME}:{receiver.port}")
    assert received.path == "/hook?a=b"


async def test_a_name_that_is_bound_to_another_address_later(receiver: Receiver) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"], ["127.0.0.1"])
    sender = poster(receiver, names)
    answers = [await post(sender, receiver) for _ in range(4)]
    refused = Answer(error="no_allowed_address")
    assert answers == [Answer(204), refused, refused, Answer(204)]
    assert receiver.connections == 2


@pytest.mark.parametrize("answer", [["127.0.0.1", "10.0.0.1"], ["::1", "127.0.0.1"], []])
async def test_one_wrong_address_makes_all_suspect(receiver: Receiver, answer: list[str]) -> None:
    assert await post(poster(receiver, Names(answer)), receiver) == Answer(error="no_allowed_address")
    assert receiver.connections == 0


async def test_an_address_that_does_not_answer_gives_way_to_the_next(receiver: Receiver) -> None:
    network = WebhookNetwork.read(f"127.0.0.0/8:{receiver.port}")
    destinations = Destinations([network], Names(["127.0.0.9", "127.0.0.1"]))
    sender = Poster(destinations, trusted(receiver.authority.certificate), 5)
    assert await post(sender, receiver) == Answer(204)


async def test_a_certificate_must_name_the_host(receiver: Receiver) -> None:
    sender = poster(receiver, Names(["127.0.0.1"]))
    assert await post(sender, receiver, "other.example.test") == Answer(error="tls_failed")
    unknown = Poster(Destinations([receiver.network], Names(["127.0.0.1"])), ssl.create_default_context(), 5)
    assert await post(unknown, receiver) == Answer(error="tls_failed")
    assert not receiver.received


async def test_no_proxy_of_the_environment_is_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert await post(poster(receiver, Names(["127.0.0.1"])), receiver) == Answer(204)


async def test_a_lookup_that_hangs_ends_with_the_try(receiver: Receiver) -> None:
    class Hanging(Names):
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            await asyncio.sleep(60)
            return await super().__call__(host, port)

    assert await post(poster(receiver, Hanging(), timeout=0.1), receiver) == Answer(error="timed_out")


async def test_the_system_is_asked_where_nobody_else_is(receiver: Receiver) -> None:
    target = Destinations([WebhookNetwork.read(f"127.0.0.0/8:{receiver.port}")]).read(
        f"https://localhost:{receiver.port}/"
    )
    allowed = [WebhookNetwork.read(f"{each}:{receiver.port}") for each in ("127.0.0.0/8", "::1/128")]
    found = await Destinations(allowed).addresses(target)
    assert {str(each) for each in found} <= {"127.0.0.1", "::1"}
    with pytest.raises(NoAllowedAddress):
        await Destinations([]).addresses(target)


@pytest.mark.parametrize(
    ("status", "said", "seconds"),
    [(429, "7", 7), (503, "0", 0), (503, "x", None), (500, "7", None), (429, "9" * 500, 999_999_999)],
)
async def test_how_long_a_receiver_asks_to_wait(
    receiver: Receiver, status: int, said: str, seconds: float | None
) -> None:
    receiver.answer = lambda _: Reply(status, {"Retry-After": said})
    answer = await post(poster(receiver, Names(["127.0.0.1"])), receiver)
    assert answer == Answer(status, "refused", seconds)


def test_authorities_of_ones_own_are_believed_beside_the_systems(authority: Authority) -> None:
    assert len(trusted(authority.certificate).get_ca_certs()) == len(trusted(None).get_ca_certs()) + 1
