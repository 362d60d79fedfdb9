"""`python -m tests.benchmarks.scale`: fifty workers at a queue of a million jobs, on one Postgres.

Claims, heartbeats and commits are the real ones, on the real Postgres, rows of scores included. Only the
science is none: a worker sleeps for `--shard-seconds` on average, so that fifty of them claim ten jobs a
second and what is measured is a database that answers, not clients that wait for a processor. Heartbeats
come once a second, ten times as often as by default. A claim's time is what a worker waits for it, Python
included; how long its statements take is told beside it. The first six of a connection, while its statements
are planned, are told apart: a worker keeps its connections for days.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from app.embedded.layout import lay_out
from app.embedded.postgres_server import PostgresServer
from app.store.core.identifiers import new_id
from app.store.core.migrate import upgrade
from app.store.core.sessions import driver_url, sync_engine, sync_sessions
from app.store.jobs.claiming import claim
from app.store.jobs.leases import Lease, heartbeat, take_for_finish
from app.store.jobs.sweeping import jobs_to_ring, sweep_leases
from app.store.lifecycle import complete_shard
from app.store.scores import copy_scores
from tests.benchmarks.limits import Line, print_and_exit
from tests.benchmarks.open_loop import quantile
from tests.integration.rows import add_audit_rows, add_tenant, score_row
from tests.servers import temporary_home
from workers.running.turns import Turns

CLAIM_P99_SECONDS: Final = 0.020
# Of a core: what is left is for the API, for exports and for hours that are busier than others.
USED_SHARE: Final = 0.7
SHARD_TOKENS: Final = 65_536
# The driver has a statement prepared once it was executed this often.
PLANNED_AFTER: Final = 6
JOBS_AT_ONCE: Final = 100_000
FILL: Final = """
    INSERT INTO jobs (id, kind, queue, tenant_id, owner_kind, owner_id, audit_id, language_model_id, payload,
                      state, priority, epoch, attempts, progress)
    SELECT gen_random_uuid(), 'score_shard', 'gpu', tenant_id, 'audit', id, id, language_model_id,
           jsonb_build_object('start', :texts * shard, 'stop', :texts * (shard + 1)), 'queued', 0, 0, 0, 0
    FROM audits, generate_series(:first, :last - 1) shard
"""
ROW_COUNTS: Final = """
    SELECT n_dead_tup, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'
"""

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Plan:
    """What workers do: so many threads of each process, for so many seconds."""

    database_url: str
    threads: int
    seconds: float
    shard_seconds: float
    texts: int


class DatabaseClock:
    """How long the statements of a thread took, commits left out."""

    def __init__(self, engine: Engine) -> None:
        self._own = threading.local()
        event.listen(engine, "before_cursor_execute", self._start)
        event.listen(engine, "after_cursor_execute", self._stop)

    def since_last(self) -> float:
        """The seconds since the thread asked before, or came."""
        seconds: float = getattr(self._own, "seconds", 0.0)
        self._own.seconds = 0.0
        return seconds

    def _start(self, *_: Any) -> None:
        self._own.began = time.perf_counter()

    def _stop(self, *_: Any) -> None:
        self._own.seconds = getattr(self._own, "seconds", 0.0) + time.perf_counter() - self._own.began


def main() -> None:
    """Measure, print, and end with 1 if a limit was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--processes", type=int, default=50, help="that share the workers; each its own")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="that wait; a multiple of the audits")
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--shard-seconds", type=float, default=5.0)
    parser.add_argument("--texts", type=int, default=1000, help="of a shard: rows that a commit writes")
    parser.add_argument("--directory", type=Path, help="for Postgres' data; in memory if there is room")
    arguments = parser.parse_args()
    with running_postgres(arguments.directory) as server:
        fill(server.url, arguments)
        print_and_exit(measured(server, arguments))


@contextmanager
def running_postgres(directory: Path | None) -> Iterator[PostgresServer]:
    """A migrated Postgres with the settings of `memaudit up`."""
    with ExitStack() as stack:
        if directory is None:
            home = stack.enter_context(temporary_home())
        else:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory)))
            home.chmod(0o711)  # Postgres' account goes through it
        server = stack.enter_context(PostgresServer(lay_out(home)))
        upgrade(server.url)
        yield server


def fill(database_url: str, arguments: argparse.Namespace) -> None:
    """Add tenants, their audits, each of a language model of its own, and the shards of all."""
    shards = arguments.jobs // arguments.audits
    began = time.perf_counter()
    engine = sync_engine(database_url)
    sessions = sync_sessions(engine)
    with sessions.begin() as session:
        tenants = [add_tenant(session, f"tenant-{number}") for number in range(arguments.tenants)]
        for number in range(arguments.audits):
            # One shard more than there is, so that none of them ends.
            add_audit_rows(session, tenants[number % len(tenants)], texts=(shards + 1) * arguments.texts)
    step = max(1, JOBS_AT_ONCE // arguments.audits)
    for first in range(0, shards, step):
        bounds = {"first": first, "last": min(first + step, shards), "texts": arguments.texts}
        with sessions.begin() as session:
            session.execute(text(FILL), bounds)
    engine.dispose()
    print(f"  {shards * arguments.audits} jobs added in {time.perf_counter() - began:.0f} s", flush=True)


def measured(server: PostgresServer, arguments: argparse.Namespace) -> Iterator[Line]:
    """Let the workers work; all figures, and those that have limits with them."""
    threads = arguments.workers // arguments.processes
    plan = Plan(server.url, threads, arguments.seconds, arguments.shard_seconds, arguments.texts)
    context = get_context("spawn")
    # To start fifty processes takes more than all that they do.
    all_there = context.Barrier(arguments.processes + 1)
    with ProcessPoolExecutor(arguments.processes, mp_context=context, initializer=all_there.wait) as pool:
        running = [pool.submit(work, plan, seed) for seed in range(arguments.processes)]
        all_there.wait()
        before, began = processor_seconds(server), time.perf_counter()
        sweeps = sweep_meanwhile(plan)
        times = merged([*(each.result() for each in running), sweeps])
    seconds = time.perf_counter() - began
    spent = processor_seconds(server) - before
    dead, updated, hot = row_counts(server.url)
    shards = len(times["commit"])
    print(f"  {shards} shards in {seconds:.0f} s by {threads * arguments.processes} workers")
    for name in sorted(times):
        print(f"  {told(name, times[name])}")
    cost = spent / shards
    print(
        f"  Postgres: {spent / seconds:.2f} cores, {1000 * cost:.1f} ms a shard of {arguments.texts} texts; "
        f"jobs: {dead} dead rows, {updated} updates, {hot} of them without touching an index"
    )
    print(estimate(cost, arguments))
    p99 = quantile(times["claim"], 0.99)
    yield Line(
        f"p99 of a claim, {arguments.workers} workers, {arguments.jobs} jobs of {arguments.audits} audits",
        f"{p99 * 1000:.1f} ms, {shards / seconds:.1f}/s",
        f"below {CLAIM_P99_SECONDS * 1000:.0f} ms",
        p99 < CLAIM_P99_SECONDS,
    )


def estimate(cost: float, arguments: argparse.Namespace) -> str:
    """What a core of Postgres carries, by what a shard costs it."""
    rate = USED_SHARE / cost
    return (
        f"  A core of Postgres, used for {USED_SHARE:.0%}, carries {rate:.0f} shards/s: "
        f"{rate * arguments.shard_seconds:.0f} workers with shards of {arguments.shard_seconds:.0f} s, "
        f"{rate * SHARD_TOKENS / 1e6:.1f} million tokens/s in shards of {SHARD_TOKENS}, "
        f"{rate * arguments.texts * 86400 / 1e6:.0f} million rows a day"
    )


def told(name: str, times: list[float]) -> str:
    """A line of figures."""
    figures = [quantile(times, share) * 1000 for share in (0.5, 0.99, 1.0)]
    return f"{name:24} {len(times):6} times: " + "p50 {:.1f} p99 {:.1f} max {:.1f} ms".format(*figures)


def merged(parts: list[Times]) -> Times:
    """All times, by what took them."""
    return {name: [each for part in parts for each in part.get(name, ())] for part in parts for name in part}


def sweep_meanwhile(plan: Plan) -> Times:
    """Sweep as an API process does, every fifteen seconds."""
    times: Times = defaultdict(list)
    engine = sync_engine(plan.database_url)
    sessions = sync_sessions(engine)
    deadline = time.monotonic() + plan.seconds
    while time.monotonic() < deadline:
        with timed(times, "sweep of leases"), sessions.begin() as session:
            sweep_leases(session, max_attempts=3)
        with timed(times, "sweep of bells"), sessions.begin() as session:
            jobs_to_ring(session, stale_seconds=60)
        time.sleep(max(0.0, min(15.0, deadline - time.monotonic())))
    engine.dispose()
    return times


def work(plan: Plan, seed: int) -> Times:
    """The workers of a process, and what took them how long."""
    engine = sync_engine(plan.database_url, pool_size=plan.threads)
    clock = DatabaseClock(engine)
    sessions = sync_sessions(engine)
    with ThreadPoolExecutor(plan.threads) as threads:
        workers = [
            threads.submit(run_worker, plan, sessions, clock, random.Random(f"{seed}-{number}"))
            for number in range(plan.threads)
        ]
        times = merged([each.result() for each in workers])
    engine.dispose()
    return times


def run_worker(
    plan: Plan, sessions: sessionmaker[Session], clock: DatabaseClock, dice: random.Random
) -> Times:
    """Claim, sleep, commit, until the time is over. It has one language model loaded."""
    times: Times = defaultdict(list)
    turns, name, lease = Turns(60.0), str(new_id()), None
    time.sleep(dice.uniform(0, plan.shard_seconds))
    with sessions() as session:
        session.execute(text("SELECT 1"))  # it is connected
    deadline = time.monotonic() + plan.seconds - plan.shard_seconds
    claims = 0
    while time.monotonic() < deadline:
        loaded = [] if lease is None or lease.language_model_id is None else [lease.language_model_id]
        clock.since_last()
        claims += 1
        kind = "claim" if claims > PLANNED_AFTER else "claim, planned"
        with timed(times, kind), sessions.begin() as session:
            lease = claim(
                session,
                queue="gpu",
                worker=name,
                lease_seconds=60,
                loaded=turns.preferred(loaded),
                served=turns.served,
                last=turns.last,
            )
        times[f"{kind}: statements"].append(clock.since_last())
        assert lease is not None, "nothing is left"
        turns.serve(lease)
        compute(plan.shard_seconds * dice.uniform(0.5, 1.5), sessions, lease, times)
        with timed(times, "commit"), sessions.begin() as session:
            commit(session, lease)
        turns.job_ended()
    return times


def compute(seconds: float, sessions: sessionmaker[Session], lease: Lease, times: Times) -> None:
    """Sleep, with a heartbeat each second."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        with timed(times, "heartbeat"), sessions.begin() as session:
            assert heartbeat(session, lease, lease_seconds=60, progress=1)


def commit(session: Session, lease: Lease) -> None:
    """What a shard commits, without the evidence of tokens."""
    take_for_finish(session, lease)
    start, stop = lease.payload["start"], lease.payload["stop"]
    copy_scores(session, (score_row(lease.owner_id, ordinal, -1.5) for ordinal in range(start, stop)))
    complete_shard(session, lease.owner_id, stop - start)


@contextmanager
def timed(times: Times, name: str) -> Iterator[None]:
    """Note how long the block takes."""
    began = time.perf_counter()
    yield
    times[name].append(time.perf_counter() - began)


def processor_seconds(server: PostgresServer) -> float:
    """What Postgres has used so far, ended connections included."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    ended = process.cpu_times().children_user + process.cpu_times().children_system
    running = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(ended + sum(each.user + each.system for each in running))


def row_counts(database_url: str) -> Any:
    """Dead rows, updates and those that touched no index, of the jobs."""
    with psycopg.connect(driver_url(database_url), autocommit=True) as connection:
        return connection.execute(ROW_COUNTS).fetchone()


if __name__ == "__main__":
    main()
