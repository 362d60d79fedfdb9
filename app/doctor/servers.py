"""Checks of Postgres, Redis and the API."""

import json
import socket
from datetime import UTC, datetime
from typing import Final
from urllib.request import ProxyHandler, build_opener

from kombu import Connection
from kombu.exceptions import OperationalError as BrokerError

from app import __version__
from app.doctor.check import Check, Finding, Patient, Unseen, fail, ok, warn
from app.embedded.binaries import postgres_binaries, redis_binary
from app.embedded.errors import EmbeddedError
from app.embedded.layout import postgres_account
from app.embedded.programs import local_url
from app.store.core.migrate import newest_revision

_OLDEST_VERSION: Final = 16
_SKEW_WARNS: Final = 2.0
_SKEW_FAILS: Final = 300.0
_SECONDS: Final = 3.0
_OF_A_VERSION: Final = 10_000
# What is left of `max_connections` for workers and for whoever administers.
_OTHERS: Final = 10
_START: Final = "Start `memaudit up`, or set {name}."


def check_postgres(patient: Patient) -> Finding:
    """It holds everything."""
    if patient.settings.database_url is None:
        try:
            postgres_binaries(postgres_account())
        except EmbeddedError as error:
            return fail(f"There is no Postgres: {error}.", _START.format(name="MEMAUDIT_DATABASE_URL"))
        return warn(
            "None is set and no `memaudit up` runs here; it would start a Postgres of its own.",
            _START.format(name="MEMAUDIT_DATABASE_URL"),
        )
    try:
        facts = patient.database
    except Unseen:
        return fail(
            "Postgres does not answer.", "Check MEMAUDIT_DATABASE_URL: host, port, user, password, TLS."
        )
    version = facts.version // _OF_A_VERSION
    if version < _OLDEST_VERSION:
        return fail(f"Postgres {version} is too old.", f"Use Postgres {_OLDEST_VERSION} or newer.")
    return ok(f"Postgres {version} answers.")


def check_migrations(patient: Patient) -> Finding:
    """The schema has to be that of this release."""
    found, wanted = patient.database.revision, newest_revision("postgresql://")
    if found is None:
        return fail("The database has no tables yet.", "Run `memaudit migrate`.")
    if found == wanted:
        return ok(f"The schema is the newest, {found}.")
    if wanted is not None and found > wanted:
        return fail(
            f"The schema {found} is of a newer release: this one knows {wanted}.",
            "Install the newer release here.",
        )
    return fail(f"The schema is {found}, and this release needs {wanted}.", "Run `memaudit migrate`.")


def check_connections(patient: Patient) -> Finding:
    """All processes together must get their connections."""
    most, pool = patient.database.max_connections, patient.settings.database_pool_size
    if most < 2 * pool + 1 + _OTHERS:
        return fail(
            f"Postgres gives {most} connections, and one API process may want {2 * pool + 1}.",
            "Raise max_connections, or lower MEMAUDIT_DATABASE_POOL_SIZE.",
        )
    return ok(f"Postgres gives {most} connections; an API process takes at most {2 * pool + 1}.")


def check_clock(patient: Patient) -> Finding:
    """Leases go by the database's clock; tokens, TLS and signatures by this machine's."""
    skew = (datetime.now(UTC) - patient.database.now).total_seconds()
    found = f"The clock here and that of Postgres differ by {abs(skew):.1f} seconds."
    advice = "Let NTP set both clocks."
    if abs(skew) > _SKEW_FAILS:
        return fail(found, advice)
    return warn(found, advice) if abs(skew) > _SKEW_WARNS else ok(found)


def check_redis(patient: Patient) -> Finding:
    """It rings for workers."""
    if patient.settings.broker_url is None:
        try:
            redis_binary()
        except EmbeddedError as error:
            return fail(f"There is no Redis: {error}.", _START.format(name="MEMAUDIT_BROKER_URL"))
        return warn(
            "None is set and no `memaudit up` runs here; it would start a Redis of its own.",
            _START.format(name="MEMAUDIT_BROKER_URL"),
        )
    options = patient.settings.celery_options()
    connection = Connection(
        options["broker_url"],
        ssl=options["broker_use_ssl"] or False,
        transport_options=options["broker_transport_options"],
    )
    try:
        with connection:
            connection.ensure_connection(max_retries=1, timeout=_SECONDS)
            # What is asked of it when a bell is rung: a replica that may only be read says no.
            with connection.SimpleQueue("memaudit.doctor") as queue:
                queue.put({})
                queue.get_nowait()
                queue.queue.delete()
    except (BrokerError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
        return fail(
            f"Redis does not take messages ({type(error).__name__}); work is accepted, and not begun.",
            "Check MEMAUDIT_BROKER_URL: host, port, user, password, TLS; whether it is full, or a replica.",
        )
    return ok("Redis takes messages and gives them back.")


def check_api(patient: Patient) -> Finding:
    """Whether an API process answers at the address of the settings, and of which release it is."""
    url = local_url(patient.settings)
    try:
        # No proxy stands between this machine and itself.
        with build_opener(ProxyHandler({})).open(f"{url}/openapi.json", timeout=_SECONDS) as answer:
            release = json.load(answer)["info"]["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return _port_is_free(patient)
    if release != __version__:
        return warn(
            f"The API at {url} is of release {release}, and this command of {__version__}.",
            "Replace what is older: the workers first, then the API.",
        )
    return ok(f"The API answers at {url}.")


def _port_is_free(patient: Patient) -> Finding:
    host, port = patient.settings.host, patient.settings.port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return fail(
            f"No API answers at {host}:{port}, and none could listen there ({error.strerror}).",
            "Set MEMAUDIT_HOST and MEMAUDIT_PORT, or end the program that listens there.",
        )
    return warn(
        f"No API answers at {host}:{port}; the port is free.", "Start `memaudit up` or `memaudit api`."
    )


CHECKS: Final = (
    Check("postgres", check_postgres, seconds=15),
    Check("migrations", check_migrations, seconds=15),
    Check("connections", check_connections, seconds=15),
    Check("clock", check_clock, seconds=15),
    Check("redis", check_redis, seconds=20),
    Check("api", check_api),
)
