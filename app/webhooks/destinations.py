"""Where webhooks may be sent: `https` on port 443 of the public internet, and what the operator allows.

A URL is checked when it is given, and the addresses of its host before each try, because a name can lead
anywhere by then. Whoever connects does so to an address that was checked, and asks nobody again.
"""

import asyncio
import ipaddress
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import httpx

from app.settings import WebhookNetwork

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
LookUp: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

HTTPS_PORT: Final = 443
# What IANA's registries of special-purpose addresses keep from the public internet. Python's own list differs
# from release to release.
_SPECIAL_IPV4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # of a public range, but answered by the host of an Azure machine
        ),
    )
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# Within these: protocols' own addresses with Teredo's, 6to4, documentation.
_SPECIAL_IPV6: Final = tuple(
    map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)
# A translator sends these to the IPv4 address in their last 32 bits (RFC 6052).
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
# What resolvers read as an address in another form, as 127.1 or 0x7f000001.
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
# Lookups cannot be broken off: so many may hang before the next ones are refused.
_LOOKUPS: Final = threading.BoundedSemaphore(64)
_MOST_ADDRESSES: Final = 4


class URLRefused(Exception):
    """A URL that nothing is sent to; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NoAllowedAddress(Exception):
    """A host has no address, or one that nothing is sent to; which of them it is would tell of a network."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart once.

    Attributes:
        host: as the certificate names it: a name in ASCII, or an address.
        port: where it listens.
        path: with its query, as it is sent.
    """

    host: str
    port: int
    path: bytes

    @property
    def authority(self) -> str:
        """As the `Host` header says it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"


class Destinations:
    """What may be sent to.

    Args:
        networks: inside one's own, each with a port, that are allowed beside the public internet.
        look_up: the addresses of a host.
    """

    def __init__(self, networks: Sequence[WebhookNetwork], look_up: LookUp | None = None) -> None:
        self._networks = networks
        self._look_up = look_up or _look_up

    def read(self, url: str) -> Target:
        """A URL, if it may be one that something is sent to.

        Raises:
            URLRefused: nothing is sent there.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            raise URLRefused("invalid_url") from None
        host = parsed.raw_host.decode("ascii").strip("[]").lower()
        if parsed.scheme != "https":
            raise URLRefused("https_required")
        if parsed.userinfo or parsed.fragment or not host:
            raise URLRefused("invalid_url")
        port = parsed.port or HTTPS_PORT
        if port not in {HTTPS_PORT, *(each.port for each in self._networks)}:
            raise URLRefused("port_not_allowed")
        address = _address(host)
        if address is None and not _is_name(host):
            raise URLRefused("invalid_url")
        if address is not None and not self._is_allowed(address, port):
            raise URLRefused("address_not_allowed")
        return Target(host, port, parsed.raw_path)

    async def addresses(self, target: Target) -> list[Address]:
        """The addresses of a target, asked for once. A single one that is not allowed makes all suspect.

        Raises:
            NoAllowedAddress: there is none, or not all are allowed.
        """
        literal = _address(target.host)
        if literal is not None:
            found = [literal]
        else:
            try:
                answers = await self._look_up(target.host, target.port)
            except (OSError, UnicodeError):
                raise NoAllowedAddress from None
            found = [ipaddress.ip_address(each) for each in dict.fromkeys(answers)]
        if not found or not all(self._is_allowed(each, target.port) for each in found):
            raise NoAllowedAddress
        return found[:_MOST_ADDRESSES]

    def _is_allowed(self, address: Address, port: int) -> bool:
        if port == HTTPS_PORT and is_public(address):
            return True
        return any(address in each.network and each.port == port for each in self._networks)


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, and whatever it stands for is so too."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address in _TRANSLATED:
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_IPV6)


def _is_name(host: str) -> bool:
    last = host.rstrip(".").rpartition(".")[2]
    return _NAME.fullmatch(host) is not None and _NUMERIC_LABEL.fullmatch(last) is None


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _look_up(host: str, port: int) -> list[str]:
    """Ask the system's resolver, in a thread that nothing has to wait for.

    Raises:
        OSError: there is no such name, or too many lookups hang.
    """
    if not _LOOKUPS.acquire(blocking=False):
        raise OSError("too many lookups hang")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | OSError | UnicodeError) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        found: list[str] | OSError | UnicodeError
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [str(entry[4][0]) for entry in entries]
        except (OSError, UnicodeError) as error:
            found = error
        finally:
            _LOOKUPS.release()
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=ask, name="webhook-lookup", daemon=True).start()
    return await answer
