"""Settings, read from `MEMAUDIT_*` environment variables or from files in a secrets directory."""

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# Bells of every release have this name: a worker of another one must hear them.
DOORBELL_TASK = "memaudit.work"
# Where container engines mount secrets; `memaudit_database_url` there sets `database_url`.
SECRETS_DIRECTORY = os.environ.get("MEMAUDIT_SECRETS_DIRECTORY", "/run/secrets")

Queue = Literal["gpu", "cpu"]
# Work that needs a language model in memory, and work that needs not even torch.
GPU_QUEUE: Final = "gpu"
CPU_QUEUE: Final = "cpu"
# The queues that a worker of a class serves. One for `gpu` can do everything, so that it suffices alone.
SERVED_BY: Final[Mapping[Queue, tuple[Queue, ...]]] = {
    GPU_QUEUE: (GPU_QUEUE, CPU_QUEUE),
    CPU_QUEUE: (CPU_QUEUE,),
}
# The GPUs that one process of a worker holds.
DeviceGroup = tuple[str, ...]
_DEVICE: Final = re.compile(r"\d+|(GPU|MIG)-[A-Za-z0-9/-]+")
_BUCKET: Final = re.compile(r"//[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?")
LogFormat = Literal["json", "console"]


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _split_roots(value: object) -> object:
    """Read a colon-separated string as a list of directories."""
    if isinstance(value, str):
        return [part for part in value.split(":") if part]
    return value


def _split_hosts(value: object) -> object:
    """Read a comma-separated string as a list of hosts."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _split_devices(value: object) -> object:
    """Read `0,1` or `0+1,cuda:2+cuda:3` as groups of devices; those of a group are joined by a plus.

    Raises:
        ValueError: a device is named otherwise, or twice.
    """
    if not isinstance(value, str):
        return value
    groups = [
        tuple(device.strip().removeprefix("cuda:") for device in group.split("+"))
        for group in value.split(",")
        if group.strip()
    ]
    devices = [device for group in groups for device in group]
    if not all(_DEVICE.fullmatch(device) for device in devices) or len(set(devices)) < len(devices):
        raise ValueError("give each device once, as a number, cuda:NUMBER or GPU-UUID, with commas or pluses")
    return groups


def _store_url(value: str) -> str:
    """Check the place of artifacts' bytes: `postgres:`, `file:///directory`, or `s3://bucket/prefix`."""
    scheme, _, rest = value.partition(":")
    if value in {"postgres:", "postgres://"}:
        return "postgres:"
    if scheme == "file" and rest.startswith("///") and len(PurePosixPath(rest[2:]).parts) > 1:
        return f"file://{PurePosixPath(rest[2:])}"
    if scheme == "s3" and _BUCKET.fullmatch(rest):
        return value.rstrip("/")
    raise ValueError("give postgres:, file:///directory or s3://bucket/prefix")


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


def _https_url(value: str) -> str:
    """Check an address that is believed: by TLS, or on this very machine."""
    parts = urlsplit(value)
    if parts.scheme == "https" and parts.hostname:
        return value
    if parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}:
        return value
    raise ValueError("give an address that begins with https://")


class OIDC(BaseModel):
    """Whose signed tokens are taken in place of API keys, and what they stand for."""

    model_config = ConfigDict(extra="forbid")

    # The issuer as its tokens name it, the audience that they have to be for, and where its keys are.
    issuer: Annotated[str, AfterValidator(_https_url)]
    audience: str = Field(min_length=1)
    jwks_url: Annotated[str, AfterValidator(_https_url)]
    algorithms: list[Literal["RS256", "ES256", "EdDSA"]] = Field(["RS256", "ES256", "EdDSA"], min_length=1)
    leeway_seconds: float = Field(default=30.0, ge=0, le=300)
    # The claim that names the tenant, and the id or name of the tenant that each of its values stands for:
    # itself unless given.
    tenant_claim: str = "tenant"
    tenants: dict[str, str] = {}
    # The claim that holds scopes, roles or groups, and the scopes of each: themselves unless given.
    scopes_claim: str = "scope"
    scopes: dict[str, list[str]] = {}


class WebhookNetwork(NamedTuple):
    """Addresses inside one's own network that webhooks may be sent to, and the port there."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    port: int

    @classmethod
    def read(cls, entry: str) -> Self:
        """Read `address/length`, for port 443, or `address/length:port`.

        Raises:
            ValueError: it is neither.
        """
        address, slash, rest = entry.strip().partition("/")
        length, _, port = rest.partition(":")
        if not slash or not 0 < int(port or 443) <= 65_535:  # noqa: PLR2004 - ports
            raise ValueError("give networks as address/length or address/length:port")
        return cls(ipaddress.ip_network(f"{address}/{length}"), int(port or 443))


def _webhook_networks(value: object) -> object:
    """Read `10.20.0.0/16,10.30.0.7/32:8443,fd00::/64:8443`."""
    if isinstance(value, str):
        return [WebhookNetwork.read(entry) for entry in value.split(",") if entry.strip()]
    return value


class Settings(BaseSettings):
    """Everything that a process of memaudit can be told from outside."""

    model_config = SettingsConfigDict(
        env_prefix="MEMAUDIT_",
        env_nested_delimiter="__",
        extra="ignore",
        secrets_dir=SECRETS_DIRECTORY if Path(SECRETS_DIRECTORY).is_dir() else None,
    )

    home: AbsolutePath = Field(default=Path("~/.memaudit"), validate_default=True)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)

    database_url: SecretStr | None = None
    broker_url: SecretStr | None = None
    # Who vouches for a broker on `rediss://`, as PEM; the system's authorities where it is not given.
    broker_ca_file: AbsolutePath | None = None
    database_pool_size: int = Field(default=10, ge=1)
    # How long a request waits for a free connection to the database, and for the end of a statement. What
    # writes or reads all of something large is given an hour.
    database_wait_seconds: float = Field(default=10.0, gt=0)
    database_statement_seconds: float = Field(default=10.0, gt=0)

    # How many requests wait to be let in, and for how long, before they are refused; and how many long polls
    # and event streams, and how many exports, downloads and uploads, one API process serves at once.
    waiting_requests: int = Field(default=200, ge=0)
    waiting_seconds: float = Field(default=0.4, gt=0)
    long_polls: int = Field(default=2000, ge=1)
    transfers: int = Field(default=32, ge=1)

    artifact_store: Annotated[str, AfterValidator(_store_url)] = "postgres:"

    model_roots: Annotated[list[AbsolutePath], NoDecode, BeforeValidator(_split_roots)] = []

    # Of all files of a checkpoint together: every byte of them is downloaded and digested. The largest models
    # that one accelerator holds, of 70 billion numbers of 16 bits, have 141 GB.
    max_model_bytes: int = Field(default=200 * 10**9, ge=1)

    # Hosts beside the hub's own that it may send workers to.
    hub_hosts: Annotated[list[str], NoDecode, BeforeValidator(_split_hosts)] = []

    lease_seconds: float = Field(default=60.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    # The pause before a second try, twice as long before each further one; how long an outage is waited for.
    retry_seconds: float = Field(default=5.0, gt=0)
    outage_seconds: float = Field(default=3600.0, ge=0)
    # How long a worker prefers the language models that it has loaded to those of others who wait.
    turn_seconds: float = Field(default=60.0, ge=0)
    loaded_models: int = Field(default=2, ge=1)
    # The GPUs of each process of a worker for `gpu`; all that are visible, one a process, unless given.
    devices: Annotated[list[DeviceGroup], NoDecode, BeforeValidator(_split_devices)] = []
    shard_tokens: int = Field(default=65_536, ge=1)
    shard_texts: int = Field(default=4096, ge=1)
    # Calibration tokens of a job that collects curvature, at least; an edit of fewer than twice as many
    # collects by itself.
    collection_shard_tokens: int = Field(default=262_144, ge=1)
    # Curvature factors, and edited models on a worker's disk: all of it can be made again.
    cache_days: float = Field(default=30.0, ge=1, le=36_500)

    # Ended jobs of ended work. Results stay.
    jobs_kept_days: float = Field(default=7.0, ge=0, le=36_500)

    # A directory of PEM files: the key that evidence is signed with, and those that were before it.
    signing_keys: AbsolutePath | None = None
    # What wraps the keys of texts: a directory of key files, of which the newest wraps; keys in base64, of
    # which the first wraps; or a program that wraps and unwraps, as that of a key management service.
    master_keys: AbsolutePath | None = None
    master_key: SecretStr | None = None
    key_command: str | None = None
    # A JSON file that says which controls the rules of policies bear on; None for the mappings that ship.
    control_mappings: AbsolutePath | None = None

    # An issuer of signed tokens, as JSON.
    oidc: OIDC | None = None
    # Wrong API keys from one address; further ones are not looked at.
    wrong_keys_a_minute: int = Field(default=30, ge=1)

    # Documents and plots that an API process draws at once, each in a child process; for how long at most.
    renderings: int = Field(default=2, ge=1, le=64)
    rendering_seconds: float = Field(default=60.0, gt=0)

    # What each tenant may use unless it has quotas of its own (see `Quotas`); None for no limit.
    quota_requests_per_minute: int | None = Field(default=60_000, ge=1)
    quota_concurrent_operations: int | None = Field(default=None, ge=0)
    quota_stored_texts: int | None = Field(default=None, ge=0)
    quota_stored_bytes: int | None = Field(default=None, ge=0)
    quota_gpu_seconds_per_day: int | None = Field(default=None, ge=0)
    quota_gpu_seconds_per_month: int | None = Field(default=None, ge=0)
    quota_upload_bytes: int | None = Field(default=None, ge=0)

    # Connections to one API process, and those from one address: behind a proxy all come from the proxy's.
    max_connections: int = Field(default=1000, ge=1)
    max_connections_per_address: int = Field(default=500, ge=1)
    # A request's headers must be there in so many seconds; a body may not pause for longer, nor a reader.
    header_seconds: float = Field(default=10.0, gt=0)
    body_pause_seconds: float = Field(default=30.0, gt=0)
    reader_pause_seconds: float = Field(default=30.0, gt=0)

    # A JSON request; a text set in one JSON document, or one record of a stream; a whole stream.
    max_request_bytes: int = Field(default=2**20, ge=1)
    max_json_bytes: int = Field(default=64 * 2**20, ge=1)
    max_upload_bytes: int = Field(default=8 * 2**30, ge=1)
    max_text_chars: int = Field(default=4_000_000, ge=1)
    max_texts: int = Field(default=10_000_000, ge=1)

    # Webhooks go to the public internet, port 443, and to these networks inside one's own; who vouches for
    # receivers beside the system's authorities, as PEM.
    webhook_networks: Annotated[list[WebhookNetwork], NoDecode, BeforeValidator(_webhook_networks)] = []
    webhook_ca_file: AbsolutePath | None = None
    # A whole try; the pause before the second, twice as long before each further one; when they are given up.
    webhook_timeout_seconds: float = Field(default=15.0, gt=0, le=60)
    webhook_retry_seconds: float = Field(default=5.0, gt=0, le=60)
    webhook_retry_days: float = Field(default=3.0, gt=0, le=30)
    # Deliveries that have ended, so that they can be looked at and replayed.
    webhook_kept_days: float = Field(default=30.0, gt=0, le=36_500)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "json"

    @property
    def heartbeat_seconds(self) -> float:
        """Seconds between two extensions of a lease: a sixth of the lease."""
        return self.lease_seconds / 6

    @property
    def sweep_seconds(self) -> float:
        """Seconds between two sweeps for expired leases and unrung jobs: a quarter of the lease."""
        return self.lease_seconds / 4

    @property
    def api_key_path(self) -> Path:
        """Where the embedded service keeps the key it made for its owner."""
        return self.home / "api-key"

    @property
    def signing_keys_directory(self) -> Path:
        """Where the keys for evidence are: below the data directory unless they are set."""
        return self.signing_keys or self.home / "signing-keys"

    @property
    def master_keys_directory(self) -> Path:
        """Where the files of master keys are: below the data directory unless they are set."""
        return self.master_keys or self.home / "master-keys"

    def require_database_url(self) -> str:
        """The URL of the Postgres that holds everything.

        Raises:
            ValueError: if `MEMAUDIT_DATABASE_URL` is not set.
        """
        if self.database_url is None:
            raise ValueError("MEMAUDIT_DATABASE_URL is not set")
        return self.database_url.get_secret_value()

    def require_broker_url(self) -> str:
        """The Redis URL of the doorbell.

        Raises:
            ValueError: if `MEMAUDIT_BROKER_URL` is not set.
        """
        if self.broker_url is None:
            raise ValueError("MEMAUDIT_BROKER_URL is not set")
        return self.broker_url.get_secret_value()

    def celery_options(self) -> dict[str, Any]:
        """Celery's configuration, the same for those who ring and those who answer.

        The doorbell may be lost, doubled or late: the leases in Postgres make each of these harmless,
        so messages are acknowledged early and no result is kept.
        """
        return {
            "broker_url": self.require_broker_url(),
            "broker_use_ssl": self._broker_tls(),
            "result_backend": None,
            "task_serializer": "json",
            "accept_content": ["json"],
            "task_ignore_result": True,
            "task_acks_late": False,
            "task_default_queue": GPU_QUEUE,
            "worker_prefetch_multiplier": 1,
            # Within four seconds, the default, a busy machine may not have brought one so far.
            "worker_proc_alive_timeout": 60,
            "worker_hijack_root_logger": False,
            "broker_connection_retry_on_startup": True,
            "broker_connection_max_retries": None,
            "broker_transport_options": {
                "socket_connect_timeout": 2,
                "socket_timeout": 5,
                "socket_keepalive": True,
            },
        }

    def _broker_tls(self) -> dict[str, Any] | None:
        """How the broker proves who it is; None where it need not. Left to itself the client does not ask."""
        if not self.require_broker_url().startswith("rediss:"):
            return None
        authorities = None if self.broker_ca_file is None else os.fspath(self.broker_ca_file)
        return {
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
            "ssl_ca_certs": authorities,
        }


@lru_cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
