"""What of an address tells one client from another."""

from ipaddress import IPv6Address, ip_address
from typing import Final

# Of an IPv6 address, what a provider gives to one customer.
_NETWORK_BITS: Final = 64


def network_of(address: str) -> str:
    """The address itself, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{int(parsed) >> _NETWORK_BITS:x}::"
    return address
