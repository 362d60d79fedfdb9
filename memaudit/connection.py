"""Where the service is and who asks."""

import os
import ssl
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import httpx

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class Connection:
    """What a client is made with.

    Attributes:
        url: base URL of the service.
        api_key: `mak_…`; it appears in no repr.
        timeout: the longest silence of the service, in seconds.
        patience: for how long a request is repeated while the service is away, in seconds.
        verify: how the service's certificate is checked.
    """

    url: str
    api_key: str = field(repr=False)
    timeout: float
    patience: float
    verify: ssl.SSLContext | bool = True

    def http_options(self) -> dict[str, Any]:
        """The arguments of an httpx client."""
        return {
            "base_url": self.url,
            "headers": {
                "Authorization": f"Bearer {self.api_key}",
                "User-Agent": f"memaudit-python/{_version()}",
            },
            "timeout": httpx.Timeout(self.timeout, connect=min(self.timeout, 10.0)),
            # A proxy of the environment does not lead to this machine.
            "trust_env": httpx.URL(self.url).host not in _LOCAL_HOSTS,
            "verify": self.verify,
        }


def connection(
    url: str | None,
    api_key: str | None,
    *,
    timeout: float,
    patience: float,
    verify: ssl.SSLContext | bool,
) -> Connection:
    """A connection; what is not given is taken from MEMAUDIT_URL and MEMAUDIT_API_KEY.

    Raises:
        ValueError: there is no key.
    """
    key = (api_key or os.environ.get("MEMAUDIT_API_KEY") or "").strip()
    if not key:
        raise ValueError("give api_key, or set MEMAUDIT_API_KEY")
    found = url or os.environ.get("MEMAUDIT_URL") or DEFAULT_URL
    return Connection(found.rstrip("/"), key, timeout, patience, verify)


def _version() -> str:
    try:
        return version("memaudit")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"
