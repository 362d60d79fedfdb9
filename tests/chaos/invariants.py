"""The promises as statements: what may never be seen in the database, and what must be there at the end."""

import threading
from collections.abc import Iterator
from typing import Final

import psycopg
import redis

from tests.chaos.client import Ledger
from tests.chaos.fleet import Fleet
from tests.chaos.inputs import CANARY
from tests.chaos.record import Record

_PAUSE_SECONDS: Final = 1.0
# Tables whose rows end once, with the column that says how they stand.
_ENDING: Final = {
    "audits": "status",
    "studies": "status",
    "edits": "status",
    "gates": "status",
    "language_models": "status",
    "text_sets": "status",
    "jobs": "state",
    "webhook_deliveries": "state",
}
_OPEN: Final = "('queued', 'running', 'importing', 'pending')"
# What the objects of answers are called here.
TABLES: Final = {
    "audit": "audits",
    "study": "studies",
    "edit": "edits",
    "gate": "gates",
    "text_set": "text_sets",
}

# Each finds what may never be.
_NEVER: Final = {
    "a terminal state changed": f"SELECT name, row_id, was, became FROM chaos_steps WHERE was NOT IN {_OPEN}",
    "something ended twice": f"""
        SELECT name, row_id, count(*) FROM chaos_steps WHERE became NOT IN {_OPEN}
        GROUP BY name, row_id HAVING count(*) > 1""",
    "an end was told twice": """
        SELECT subject_kind, subject_id, count(*) FROM events
        WHERE subject_kind IN ('audit', 'study', 'edit', 'gate') GROUP BY 1, 2 HAVING count(*) > 1""",
    "a succeeded audit lacks rows or has too many": """
        SELECT id FROM audits WHERE status = 'succeeded' AND (
            texts_done <> texts_total
            OR texts_total <> (SELECT count(*) FROM scores WHERE audit_id = audits.id)
            OR texts_total - 1 <> (SELECT max(ordinal) FROM scores WHERE audit_id = audits.id))""",
    "an audit has done more than there is": "SELECT id FROM audits WHERE texts_done > texts_total",
    "an audit has other rows than those of its committed shards": """
        SELECT id FROM audits WHERE texts_done <> (SELECT count(*) FROM scores WHERE audit_id = audits.id)""",
    "a succeeded audit lacks digests": """
        SELECT id FROM audits
        WHERE status = 'succeeded' AND (language_model_digest IS NULL OR text_set_sha256 = '')""",
    "a number is not finite": """
        SELECT audit_id FROM scores
        WHERE nl IN ('NaN', 'Infinity', '-Infinity') OR (nl IS NULL AND error IS NULL) LIMIT 1""",
    "a shard was committed twice": """
        SELECT owner_id, payload ->> 'start' FROM jobs
        WHERE state = 'succeeded' AND kind = 'score_shard' GROUP BY 1, 2 HAVING count(*) > 1""",
    "a finishing job was committed twice": """
        SELECT owner_id, kind FROM jobs WHERE state = 'succeeded'
        AND kind IN ('plan_audit', 'summarize_audit', 'finish_study', 'evaluate_gate', 'run_edit')
        GROUP BY owner_id, kind, payload -> 'collection' HAVING count(*) > 1""",
    "a shard of curvature was committed twice": """
        SELECT owner_id, payload ->> 'shard' FROM jobs
        WHERE state = 'succeeded' AND kind = 'collect_factors' GROUP BY 1, 2 HAVING count(*) > 1""",
    "a job was tried more often than allowed": "SELECT id FROM jobs WHERE attempts > 3 OR attempts < 0",
    "an event was made into two deliveries": """
        SELECT event_id FROM webhook_deliveries GROUP BY 1 HAVING count(*) > 1""",
    "a webhook was given up": "SELECT id FROM webhook_deliveries WHERE state = 'dead'",
    "an edit has not one artifact": """
        SELECT id FROM edits WHERE (status = 'succeeded') <> (artifact_id IS NOT NULL)""",
    "an artifact refers to bytes that are not there": """
        SELECT artifact_id, path FROM artifact_files
        WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.sha256 = artifact_files.sha256)""",
}


def install(fleet: Fleet) -> None:
    """Let the database note every step of everything that ends, in the transaction that takes it."""
    fleet.rows(
        "CREATE TABLE chaos_steps (id bigserial PRIMARY KEY, name text, row_id uuid, was text, became text)"
    )
    fleet.rows(
        "CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO chaos_steps (name, row_id, was, became) VALUES (TG_TABLE_NAME, NEW.id, "
        "to_jsonb(OLD) ->> TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[0]); RETURN NULL; END $$"
    )
    for table, column in _ENDING.items():
        fleet.rows(
            f"CREATE TRIGGER chaos_note AFTER UPDATE OF {column} ON {table} FOR EACH ROW "
            f"WHEN (OLD.{column} IS DISTINCT FROM NEW.{column}) EXECUTE FUNCTION chaos_note('{column}')"
        )


class Watch(threading.Thread):
    """Checks all the time what may never be; a database that is away is asked again later."""

    def __init__(self, fleet: Fleet, record: Record) -> None:
        super().__init__(name="invariants", daemon=True)
        self._fleet = fleet
        self._record = record
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(_PAUSE_SECONDS):
            try:
                check_always(self._fleet, self._record)
            except psycopg.Error:
                self._record.count("checks that found the database away")

    def stop(self) -> None:
        self._done.set()
        self.join()


def check_always(fleet: Fleet, record: Record) -> None:
    """Whatever may never be seen, faults or not."""
    for what, query in _NEVER.items():
        for row in fleet.rows(query)[:5]:
            record.violate(f"{what}: {', '.join(map(str, row))}")
    record.count("checks of all invariants in SQL")


def open_work(fleet: Fleet) -> list[str]:
    """What has not ended."""
    return [
        f"{table} {row_id} is {state}"
        for table, column in _ENDING.items()
        for row_id, state in fleet.rows(f"SELECT id, {column} FROM {table} WHERE {column} IN {_OPEN}")
    ]


def check_promises(fleet: Fleet, record: Record, ledger: Ledger) -> None:
    """At the end: whatever was promised is there, once."""
    for noun, table in TABLES.items():
        kept = {row_id.hex for (row_id,) in fleet.rows(f"SELECT id FROM {table}")}
        promised = {each.partition("_")[2].replace("-", "") for each in ledger.ids(noun)}
        record.count(f"{table} promised", len(promised))
        for lost in promised - kept:
            record.violate(f"{noun} {lost} was promised and is not there")
        if noun in {"study", "edit", "gate"}:
            for extra in kept - promised:
                record.violate(f"{noun} {extra} is there and was promised to nobody")
    check_webhooks(fleet, record)
    check_leaks(fleet, record)


def check_webhooks(fleet: Fleet, record: Record) -> None:
    """Every event was delivered to whoever asked to be told, and what counts as delivered was taken."""
    if fleet.hook is None:
        return
    for (event,) in fleet.rows(
        "SELECT id FROM events WHERE NOT EXISTS "
        "(SELECT 1 FROM webhook_deliveries WHERE event_id = events.id AND state = 'delivered')"
    ):
        record.violate(f"event {event} was not delivered")
    delivered = fleet.rows("SELECT id FROM webhook_deliveries WHERE state = 'delivered'")
    record.count("webhooks delivered", len(delivered))
    for (delivery,) in delivered:
        if delivery.hex not in fleet.hook.taken:
            record.violate(f"delivery {delivery} counts as delivered, and nobody took it")


def check_leaks(fleet: Fleet, record: Record) -> None:
    """No text is in a log or in the broker."""
    for name, said in fleet.logs():
        if CANARY in said:
            record.violate(f"a text is in {name}")
    for key, value in _kept_by_redis(fleet):
        if CANARY.encode() in value:
            record.violate(f"a text is in Redis, under {key!r}")


def _kept_by_redis(fleet: Fleet) -> Iterator[tuple[bytes, bytes]]:
    with fleet.redis.client() as client:
        for key in client.scan_iter():
            try:
                yield key, client.dump(key) or b""
            except redis.ResponseError:
                continue
