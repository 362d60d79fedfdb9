"""`make chaos`: a mixed load under random faults, compared with the same load without any.

It exits with 1 if a promise was broken. The same seed gives the same faults at the same moments.
"""

import argparse
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Final

import psycopg

from app.embedded.postgres_server import PostgresServer
from app.store.core.migrate import upgrade
from app.store.core.sessions import sync_engine, sync_sessions
from tests.chaos.client import END_SECONDS, Client, Ledger
from tests.chaos.faults import Scheduler
from tests.chaos.fleet import Fleet, running_fleet
from tests.chaos.inputs import Inputs, make_inputs
from tests.chaos.invariants import Watch, check_always, check_promises, install, open_work
from tests.chaos.load import Customer, Reference, unfaulted
from tests.chaos.receiving import Hook
from tests.chaos.record import Record
from tests.job_machine import run_orders
from tests.servers import temporary_home, temporary_layout

_CUSTOMERS: Final = 5


def main() -> int:
    """Run it all and print what was seen; the exit status."""
    options = _options()
    record = Record()
    record.say(f"seed {options.seed}: {options.minutes} minutes, {options.faults_per_minute} faults a minute")
    with temporary_home() as models:
        inputs = make_inputs(models)
        with temporary_home() as home, running_fleet(home, [models]) as fleet:
            reference = unfaulted(fleet, inputs, record)
        record.counts.clear()
        hook = Hook(models, record, options.seed)
        with hook.receiver, temporary_home() as home, running_fleet(home, [models], hook) as fleet:
            install(fleet)
            try:
                run(fleet, hook, inputs, reference, record, options)
            finally:
                if options.logs is not None:
                    _keep_logs(fleet, options.logs)
    record.say(f"{options.orders} orders of statements on the job table")
    try_orders(options.orders, record, options.seed)
    print(record.table())
    seconds = time.monotonic() - record.began
    verdict = "FAILED" if record.violations else "every promise was kept"
    print(f"\nseed {options.seed}, {seconds:.0f} s: {verdict}")
    return 1 if record.violations else 0


def run(
    fleet: Fleet,
    hook: Hook,
    inputs: Inputs,
    reference: Reference,
    record: Record,
    options: argparse.Namespace,
) -> None:
    """The load, the faults and the checks; then quiet, in which everything has to end."""
    ledger = Ledger()
    subscriber = Client(fleet.urls, fleet.key, record, ledger, "subscriber")
    hook.subscribe(subscriber)
    subscriber.close()
    watch = Watch(fleet, record)
    watch.start()
    customers = [
        Customer(fleet, inputs, reference, record, ledger, f"{options.seed}-{number}")
        for number in range(_CUSTOMERS)
    ]
    for customer in customers:
        customer.start()
    Scheduler(fleet, record, seed=options.seed, per_minute=options.faults_per_minute).run(
        60 * options.minutes
    )
    record.say("quiet: nothing more goes wrong, and no work is begun")
    for customer in customers:
        customer.stop()
    deadline = time.monotonic() + 2 * END_SECONDS
    while time.monotonic() < deadline and any(customer.is_alive() for customer in customers):
        fleet.revive(record)
        time.sleep(0.5)
    for customer in customers:
        if customer.is_alive():
            record.violate(f"{customer.name} still waits for its work")
    _wait_for_ends(fleet, record)
    watch.stop()
    check_always(fleet, record)
    check_promises(fleet, record, ledger)


def try_orders(examples: int, record: Record, seed: int) -> None:
    """The state machine over the job table, on a database of its own."""
    with temporary_layout() as layout, PostgresServer(layout) as postgres:
        upgrade(postgres.url)
        engine = sync_engine(postgres.url, pool_size=3)
        try:
            run_orders(sync_sessions(engine), examples=examples, steps=50, seed=seed)
        except Exception as error:  # noqa: BLE001 - what it found is shown with the rest
            record.violate(f"an order of statements broke the job table: {error!r}")
            traceback.print_exc()
        else:
            record.count("orders of statements on the job table", examples)
        finally:
            engine.dispose()


def _wait_for_ends(fleet: Fleet, record: Record) -> None:
    """Work that nobody follows has to end too."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            left = open_work(fleet)
        except psycopg.OperationalError as error:
            left = [type(error).__name__]
        if not left:
            return
        fleet.revive(record)
        time.sleep(0.5)
    for each in left:
        record.violate(f"not ended: {each}")


def _keep_logs(fleet: Fleet, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, said in fleet.logs():
        (directory / name).write_text(said)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of faults (10)")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="to replay a run"
    )
    parser.add_argument("--faults-per-minute", type=float, default=20.0, help="on average (20)")
    parser.add_argument("--orders", type=int, default=200, help="of statements on the job table (200)")
    parser.add_argument("--logs", type=Path, help="a directory to keep the logs of all processes in")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
