"""What can go wrong, at random: each fault is a function, and most give back how they are undone later."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil
import psycopg
import redis

from app.embedded.programs import Program
from app.maintenance.doorbell import Doorbell
from app.settings import SERVED_BY, Settings
from tests.chaos.fleet import LEASE_SECONDS, Fleet
from tests.chaos.record import Record

SKEW_SECONDS: Final = 3600


class NoTarget(Exception):
    """There is nothing now that the fault could befall."""


@dataclass(frozen=True)
class Undo:
    """What ends a fault, and after how many seconds."""

    seconds: float
    run: Callable[[], object]


Inject = Callable[[Fleet, random.Random], Undo | None]


@dataclass(frozen=True)
class Fault:
    """A kind of fault; `lacks` says why it cannot be tried with a fleet, if so."""

    name: str
    inject: Inject
    weight: int = 1
    lacks: Callable[[Fleet], str | None] = field(default=lambda _: None)


def _running(programs: list[Program], dice: random.Random) -> int:
    """The place of a program that runs."""
    places = [place for place, program in enumerate(programs) if program.running]
    if not places:
        raise NoTarget
    return dice.choice(places)


def _child(fleet: Fleet, dice: random.Random) -> psutil.Process:
    """A process of a worker; one that holds a lease if there is any."""
    with suppress(psycopg.OperationalError):
        if busy := fleet.busy_children():
            return dice.choice(busy)
    children = [child for worker in fleet.workers if worker.running for child in fleet.children(worker)]
    if not children:
        raise NoTarget
    return dice.choice(children)


def kill_worker_child(fleet: Fleet, dice: random.Random) -> None:
    _child(fleet, dice).kill()


def kill_worker(fleet: Fleet, dice: random.Random) -> Undo:
    place = _running(fleet.workers, dice)
    fleet.workers[place].process.kill()  # type: ignore[union-attr]
    return Undo(dice.uniform(0, 2), lambda: fleet.start_worker(place))


def restart_worker(fleet: Fleet, dice: random.Random) -> Undo:
    """As a rollout does it: SIGTERM, the job at hand is handed back, another worker starts."""
    place = _running(fleet.workers, dice)
    fleet.workers[place].process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]

    def replace() -> None:
        fleet.workers[place].stop()
        fleet.start_worker(place)

    return Undo(dice.uniform(1, 4), replace)


def skew_worker(fleet: Fleet, dice: random.Random) -> Undo:
    """A worker whose clock is an hour ahead or behind, until it is replaced."""
    place = _running(fleet.workers, dice)

    def replace(skew_seconds: int) -> None:
        fleet.workers[place].process.kill()  # type: ignore[union-attr]
        fleet.workers[place].stop()
        fleet.start_worker(place, skew_seconds=skew_seconds)

    replace(dice.choice((-SKEW_SECONDS, SKEW_SECONDS)))
    return Undo(dice.uniform(15, 40), lambda: replace(0))


def stop_worker_child(fleet: Fleet, dice: random.Random) -> Undo:
    """A process that stands still until its lease has long been given to another."""
    child = _child(fleet, dice)
    child.suspend()
    return Undo(dice.uniform(1.2, 3) * LEASE_SECONDS, lambda: _resume([child]))


def kill_api(fleet: Fleet, dice: random.Random) -> Undo:
    api = fleet.apis[_running(fleet.apis, dice)]
    api.process.kill()  # type: ignore[union-attr]
    return Undo(dice.uniform(0, 2), api.start)


def restart_api(fleet: Fleet, dice: random.Random) -> Undo:
    api = fleet.apis[_running(fleet.apis, dice)]
    api.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]

    def replace() -> None:
        api.stop()
        api.start()

    return Undo(dice.uniform(1, 5), replace)


def stop_api(fleet: Fleet, dice: random.Random) -> Undo:
    process = psutil.Process(fleet.apis[_running(fleet.apis, dice)].pid)
    process.suspend()
    return Undo(dice.uniform(1, 6), lambda: _resume([process]))


def stop_redis(fleet: Fleet, dice: random.Random) -> Undo:
    """Redis ends; it keeps nothing, so that it comes back empty."""
    if not fleet.redis.running:
        raise NoTarget
    fleet.redis.stop()
    return Undo(dice.uniform(0, 6), fleet.redis.start)


def flush_redis(fleet: Fleet, dice: random.Random) -> None:
    with fleet.redis.client() as client, suppress(redis.ConnectionError):
        client.flushall()


def double_bells(fleet: Fleet, dice: random.Random) -> None:
    """Every bell that waits is delivered three times, and many ring for nothing."""
    asyncio.run(_ring(Settings(broker_url=fleet.redis.url, lease_seconds=LEASE_SECONDS)))
    with fleet.redis.client() as client, suppress(redis.ConnectionError):
        for queue in SERVED_BY:
            for bell in client.lrange(queue, 0, -1):
                client.rpush(queue, bell, bell)


async def _ring(settings: Settings) -> None:
    doorbell = Doorbell(settings)
    for queue in SERVED_BY:
        doorbell.ring(queue, 5)
    await doorbell.close()


def rotate_master_key(fleet: Fleet, dice: random.Random) -> Undo:
    """As its owner does it; what is broken off by other faults goes on at the next time."""
    command = [sys.executable, "-m", "app.cli", "keys", "rotate-master"]
    with (fleet.home / "rotations.log").open("ab") as log:
        rotation = subprocess.Popen(
            command, env=fleet.environment, cwd=fleet.home, stdout=log, stderr=subprocess.STDOUT
        )

    def wait() -> None:
        if rotation.poll() is None:
            rotation.kill()
        rotation.wait()

    return Undo(dice.uniform(10, 20), wait)


def stop_receiver(fleet: Fleet, dice: random.Random) -> Undo:
    """Nobody takes webhooks."""
    if fleet.hook is None:
        raise NoTarget
    fleet.hook.stop()
    return Undo(dice.uniform(2, 8), fleet.hook.start)


def stop_postgres(fleet: Fleet, dice: random.Random) -> Undo:
    """An immediate stop: every session breaks off, and what follows is a recovery from a crash."""
    if not fleet.postgres.running:
        raise NoTarget
    fleet.postgres.process.send_signal(signal.SIGQUIT)  # type: ignore[union-attr]
    fleet.postgres.process.wait()  # type: ignore[union-attr]
    return Undo(dice.uniform(0, 4), fleet.postgres.start)


def kill_postgres(fleet: Fleet, dice: random.Random) -> Undo:
    if not fleet.postgres.running:
        raise NoTarget
    fleet.postgres.kill()
    return Undo(dice.uniform(0, 4), fleet.postgres.start)


def stop_backends(fleet: Fleet, dice: random.Random) -> Undo:
    """Sessions of Postgres that stand still, with whatever locks they hold."""
    backends = dice.sample(found := _backends(fleet), k=min(3, len(found)))
    for backend in backends:
        with suppress(psutil.NoSuchProcess):
            backend.suspend()
    return Undo(dice.uniform(0.5, 2) * LEASE_SECONDS, lambda: _resume(backends))


def end_backends(fleet: Fleet, dice: random.Random) -> None:
    """Connections that break."""
    found = _backends(fleet)
    for backend in dice.sample(found, k=min(4, len(found))):
        with suppress(psutil.NoSuchProcess):
            backend.terminate()


def fill_disk(fleet: Fleet, dice: random.Random) -> Undo:
    """No room for artifacts."""
    fleet.disk.fill()
    return Undo(dice.uniform(2, 8), fleet.disk.free)


def fill_database(fleet: Fleet, dice: random.Random) -> Undo:
    """Postgres says what it says when its disk is full, to whoever writes scores."""
    with suppress(psycopg.OperationalError):
        fleet.rows(
            "CREATE OR REPLACE FUNCTION chaos_no_room() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        fleet.rows(
            "CREATE OR REPLACE TRIGGER chaos_no_room BEFORE INSERT ON scores EXECUTE FUNCTION chaos_no_room()"
        )
        return Undo(
            dice.uniform(0.5, 1.5),
            lambda: _until_done(fleet, "DROP TRIGGER IF EXISTS chaos_no_room ON scores"),
        )
    raise NoTarget


def _backends(fleet: Fleet) -> list[psutil.Process]:
    """The sessions of the service's processes, not those that look at it."""
    with suppress(psycopg.OperationalError):
        found = fleet.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'memaudit'")
        backends = []
        for (pid,) in found:
            with suppress(psutil.NoSuchProcess):
                backends.append(psutil.Process(pid))
        if backends:
            return backends
    raise NoTarget


def _resume(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.resume()


def _until_done(fleet: Fleet, statement: str) -> None:
    done = False
    while not done:
        try:
            fleet.rows(statement)
            done = True
        except psycopg.OperationalError:
            if not fleet.postgres.running:
                fleet.postgres.start()
            time.sleep(0.2)


def _no_disk(fleet: Fleet) -> str | None:
    return None if fleet.disk.fillable else "only root can mount a small disk"


def _no_clock(fleet: Fleet) -> str | None:
    return None if fleet.clock is not None else "there is no C compiler for the library that shifts a clock"


FAULTS: Final = (
    Fault("kill -9 of a worker's process", kill_worker_child, 5),
    Fault("kill -9 of a worker", kill_worker, 3),
    Fault("SIGTERM of a worker, and another", restart_worker, 2),
    Fault("SIGSTOP of a worker's process past its lease", stop_worker_child, 4),
    Fault("clock of a worker an hour off", skew_worker, 2, _no_clock),
    Fault("kill -9 of an API process", kill_api, 3),
    Fault("SIGTERM of an API process, and another", restart_api, 2),
    Fault("SIGSTOP of an API process", stop_api, 2),
    Fault("Redis stopped, comes back empty", stop_redis, 2),
    Fault("Redis FLUSHALL", flush_redis, 3),
    Fault("bells doubled", double_bells, 3),
    Fault("Postgres immediate stop", stop_postgres, 2),
    Fault("Postgres kill -9 of all", kill_postgres, 1),
    Fault("SIGSTOP of Postgres backends", stop_backends, 3),
    Fault("connections to Postgres broken", end_backends, 3),
    Fault("artifact disk full", fill_disk, 2, _no_disk),
    Fault("database full", fill_database, 1),
    Fault("master key rotated", rotate_master_key, 1),
    Fault("receiver of webhooks away", stop_receiver, 2),
)


class Scheduler:
    """Injects faults at random moments and undoes each in time. To be run by the main thread.

    The same seed gives the same faults at the same times; whom they befall depends on who is there.
    """

    def __init__(self, fleet: Fleet, record: Record, *, seed: int, per_minute: float) -> None:
        self._fleet = fleet
        self._record = record
        self._dice = random.Random(seed)
        self._per_minute = per_minute
        self._faults = []
        self._undone_at: list[tuple[float, Callable[[], object]]] = []
        for fault in FAULTS:
            if why := fault.lacks(fleet):
                record.skipped[fault.name] = why
            else:
                self._faults.append(fault)

    def run(self, seconds: float) -> None:
        """Inject faults for so long, then undo what is left."""
        end = time.monotonic() + seconds
        due = time.monotonic()
        while time.monotonic() < end:
            self._undo(until=time.monotonic())
            self._fleet.revive(self._record)
            if time.monotonic() >= due:
                self._inject()
                due = time.monotonic() + self._dice.expovariate(self._per_minute / 60)
            time.sleep(0.05)
        self._undo(until=float("inf"))

    def _inject(self) -> None:
        (fault,) = self._dice.choices(self._faults, [fault.weight for fault in self._faults])
        dice = random.Random(self._dice.random())
        try:
            undo = fault.inject(self._fleet, dice)
        except (NoTarget, psutil.NoSuchProcess):
            self._record.count("faults that found no target")
            return
        self._record.fault(fault.name)
        self._record.say(fault.name)
        if undo is not None:
            self._undone_at.append((time.monotonic() + undo.seconds, undo.run))

    def _undo(self, until: float) -> None:
        due = [each for each in self._undone_at if each[0] <= until]
        self._undone_at = [each for each in self._undone_at if each[0] > until]
        for _, undo in sorted(due, key=lambda each: each[0]):
            undo()
