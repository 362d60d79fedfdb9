"""The HTTP service: routers, problem handlers, and what lives as long as the process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI
from sqlalchemy.exc import SQLAlchemyError

from app import __version__
from app.artifacts.hub import router as hub
from app.artifacts.router import router as artifacts
from app.audits.router import router as audits
from app.contracts.tenants import Quotas
from app.edits.router import router as edits
from app.errors import MemauditError
from app.events.router import router as events
from app.evidence.controls import read_control_mappings
from app.evidence.router import keys_router as signing_keys
from app.evidence.router import router as evidence
from app.gates.router import router as gates
from app.http.admission import Admission, Kind, Room
from app.http.api_page import install_api_page
from app.http.changes import Changes
from app.http.draining import told_of_the_end
from app.http.health import router as operations
from app.http.hosts import OneHost
from app.http.observability import RequestObserver, ServiceMetrics
from app.http.open_requests import OpenRequests, RevocationGuard
from app.http.principals import Principals
from app.http.problems import install_problem_handlers, problem_responses
from app.http.request_rates import RateHeaders, RequestRates
from app.http.signed_tokens import SignedTokens
from app.http.wrong_keys import WrongKeys
from app.language_models.router import router as language_models
from app.logs import configure_logging
from app.maintenance.doorbell import Doorbell
from app.maintenance.retention import collect_forever
from app.maintenance.running import keep_up
from app.maintenance.sweeper import sweep_forever
from app.maintenance.trail import chain_forever
from app.model_lines.router import router as model_lines
from app.pages.install import install_pages
from app.policies.router import router as policies
from app.presets.router import router as presets
from app.rendering.pool import Renderings
from app.scoring.router import router as scoring
from app.sealing.keyring import Keyring
from app.serving.connections import STATE, Connections, Patience
from app.settings import Settings, get_settings
from app.store.blobs.objects import open_location
from app.store.core.sessions import TimeLimits, async_engine
from app.store.core.unit_of_work import Store
from app.store.data_keys import require_keys, with_keyring
from app.store.throughput import with_recent_classes
from app.studies.router import router as studies
from app.tenants.router import router as tenants
from app.text_sets.router import router as text_sets
from app.tracing import start_tracing
from app.trail.router import router as trail
from app.usage.router import router as usage
from app.webhooks.deliverer import Deliverer
from app.webhooks.router import messages as webhook_messages
from app.webhooks.router import router as webhooks

# So few that short requests have their turns between them.
_HEAVY_AT_ONCE: Final = 2
# Each has a connection to the database for as long as it takes.
_ERASURES_AT_ONCE: Final = 4

DESCRIPTION = """
memaudit audits language models for memorization: it scores texts under a language model and reports how
strongly each is memorized. Long work answers 202 with the resource to follow; every failure is an
RFC 9457 problem document; no submitted text appears in an error.
"""


async def _require_keys(store: Store) -> None:
    """Refuse to start with other master keys than what is stored needs.

    Raises:
        KeyUnavailable: these open nothing here. While the database is away that cannot be told.
    """
    try:
        await store.run(require_keys)
    except SQLAlchemyError:
        return
    except MemauditError:
        await store.engine.dispose()
        raise


def _quotas(settings: Settings) -> Quotas:
    """What a tenant may use that has no quotas of its own."""
    return Quotas(**{name: getattr(settings, f"quota_{name}") for name in Quotas.model_fields})


def _patience(settings: Settings) -> Patience:
    """What is read and waited for on each connection."""
    return Patience(
        connections=settings.max_connections,
        connections_per_address=settings.max_connections_per_address,
        header_seconds=settings.header_seconds,
        body_pause_seconds=settings.body_pause_seconds,
        reader_pause_seconds=settings.reader_pause_seconds,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Connections]]:
    settings: Settings = app.state.settings
    open_location(settings.artifact_store)
    read_control_mappings(settings.control_mappings)  # a wrong one is told at the start
    keyring = Keyring(settings)
    keyring.require()
    tokens = None if settings.oidc is None else SignedTokens(settings.oidc)
    limits = TimeLimits(
        connection_seconds=settings.database_wait_seconds,
        statement_seconds=settings.database_statement_seconds,
    )
    engine = async_engine(
        settings.require_database_url(), pool_size=settings.database_pool_size, limits=limits
    )
    app.state.store = Store(engine, limits, with_keyring(keyring) | with_recent_classes())
    await _require_keys(app.state.store)
    stop_tracing = start_tracing("memaudit-api")
    app.state.principals = Principals(
        app.state.store, WrongKeys(settings.wrong_keys_a_minute), _quotas(settings), tokens
    )
    # Storing a text set holds a connection for minutes; half of the pool stays free for other requests.
    app.state.text_set_writers = asyncio.Semaphore(max(1, settings.database_pool_size // 2))
    # One body after another: two at once would only take turns at the interpreter, and at that of others.
    app.state.json_turns = CapacityLimiter(1)
    app.state.token_turns = CapacityLimiter(_HEAVY_AT_ONCE)
    app.state.renderings = Renderings(settings.renderings, settings.rendering_seconds)
    app.state.doorbell = Doorbell(settings)
    app.state.changes = Changes(settings.require_database_url())
    deliverer = Deliverer(app.state.store, settings, app.state.metrics.count_webhook)
    works: dict[str, Callable[[], Awaitable[None]]] = {
        "sweeps": partial(
            sweep_forever, app.state.store, app.state.doorbell, settings, app.state.metrics.expired_leases.inc
        ),
        "collects": partial(collect_forever, app.state.store, settings),
        "listens": app.state.changes.listen_forever,
        "chains": partial(chain_forever, app.state.store),
        "revokes": partial(app.state.open_requests.end_revoked_forever, app.state.principals),
        "delivers": deliverer.deliver_forever,
        "rings": app.state.doorbell.ring_forever,
    }
    tasks = [asyncio.create_task(keep_up(name, work)) for name, work in works.items()]
    try:
        with told_of_the_end(app.state.changes.end_waits):
            yield {STATE: Connections(_patience(settings), app.state.metrics.refused)}
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await app.state.changes.close()
        await app.state.renderings.close()
        await app.state.doorbell.close()
        if tokens is not None:
            await tokens.aclose()
        await engine.dispose()
        await asyncio.to_thread(stop_tracing)


def _rooms(settings: Settings) -> dict[Kind, Room]:
    """How many requests are let in: of the short ones, as many as there are connections to the database."""
    waiting, seconds = settings.waiting_requests, settings.waiting_seconds
    return {
        Kind.SHORT: Room(settings.database_pool_size, waiting, seconds),
        Kind.HEAVY: Room(_HEAVY_AT_ONCE, waiting, seconds),
        Kind.WAITING: Room(settings.long_polls),
        Kind.BULK: Room(settings.transfers),
        Kind.ERASURE: Room(_ERASURES_AT_ONCE, waiting, seconds),
    }


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application, ready for a server: `python -m app.serving`."""
    settings = settings or get_settings()
    configure_logging(settings)
    app = FastAPI(
        title="memaudit",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        redirect_slashes=False,
        # The framework's own spans hold paths and queries, in which are names and ids of clients.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # The framework's own pages load their scripts from a public network.
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = ServiceMetrics(settings.artifact_store)
    app.state.open_requests = OpenRequests()
    app.state.request_rates = RequestRates()
    install_problem_handlers(app)
    v1 = APIRouter(responses=problem_responses(400, 401, 403, 404, 408, 413, 414, 415, 422, 429, 431, 503))
    for router in (
        language_models,
        text_sets,
        presets,
        audits,
        studies,
        scoring,
        edits,
        policies,
        gates,
        model_lines,
        events,
        webhooks,
        artifacts,
        hub,
        evidence,
        tenants,
        usage,
        trail,
    ):
        v1.include_router(router)
    app.include_router(v1)
    app.webhooks.include_router(webhook_messages)
    app.include_router(operations)
    app.include_router(signing_keys)
    install_api_page(app)
    install_pages(app)
    app.add_middleware(RevocationGuard, open_requests=app.state.open_requests)
    app.add_middleware(
        Admission,
        rooms=_rooms(settings),
        most_body_bytes=settings.max_request_bytes,
        count_refused=lambda kind: app.state.metrics.refused(f"busy_{kind}"),
    )
    app.add_middleware(RateHeaders)
    app.add_middleware(OneHost)
    app.add_middleware(RequestObserver, metrics=app.state.metrics)
    return app
