"""`python -m tests.benchmarks.webhooks --minutes 10`: a receiver that is away, and audits that go on.

Everything is real: Postgres, Redis, API and a worker as processes, a receiver with TLS. Audits are requested
one after another: first with no webhook, then for as long as the receiver is away. Then it is back, and
everything has to come, once and verifiable with the `standardwebhooks` library.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.limits import Line, print_and_exit
from tests.deployments import deployments
from tests.live_service import LiveService, fresh_key, until
from tests.tiny_models import english_sentences, save_tiny_model
from tests.tls_servers import make_authority
from tests.webhook_receiver import Receiver

TEXTS = 50
# Beside the pause of a receiver, a minute at most.
BACK_WITHIN_SECONDS = 120.0
# What one audit may take longer, as a ratio of medians, while the receiver is away.
MOST_SLOWER = 1.25


def main() -> None:
    """Measure, print, and fail if something was lost, came twice, or slowed the audits down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for which the receiver is away")
    away_seconds = 60 * parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as directory, measured_service(Path(directory)) as (service, receiver):
        model = service.register(Path(directory) / "tiny")
        texts = service.upload([{"text": text[:200]} for text in english_sentences()[:TEXTS]])
        audits(service, model, texts, 5)  # the model is loaded
        before = audits(service, model, texts, max(30, away_seconds / 10))
        time.sleep(5)  # a webhook may be told of what ended in the moment before
        request = {"url": receiver.url, "event_types": ["audit.succeeded"]}
        webhook = service.client.post("/v1/webhooks", json=request, headers=fresh_key()).json()
        during = audits(service, model, texts, away_seconds)
        tries = sum(each["attempts"] for each in deliveries(service, webhook["id"]))
        receiver.start()
        back = time.monotonic()
        until(lambda: len(set(receiver.ids())) >= len(during), "all have come", 600)
        took = time.monotonic() - back
        until(lambda: not deliveries(service, webhook["id"], "pending"), "all are written down")
        told = Counter(
            each.verified(webhook["secret"])["data"]["subject"]["id"] for each in list(receiver.received)
        )
    slower = statistics.median(during.values()) / statistics.median(before.values())
    print_and_exit(
        (
            Line(
                "audits that ended meanwhile, and messages that came, verified",
                f"{len(during)}, {len(told)}",
                "equal",
                told.keys() == during.keys(),
            ),
            Line(
                "messages that came twice",
                str(sum(told.values()) - len(told)),
                "0",
                set(told.values()) == {1},
            ),
            Line("tries while it was away", str(tries), "", passed=True),
            Line(
                "seconds from its return to the last one",
                f"{took:.1f}",
                f"at most {BACK_WITHIN_SECONDS:.0f}",
                took <= BACK_WITHIN_SECONDS,
            ),
            Line(
                "seconds of an audit meanwhile over those before (medians)",
                f"{slower:.2f}",
                f"at most {MOST_SLOWER}",
                slower <= MOST_SLOWER,
            ),
        )
    )


@contextmanager
def measured_service(directory: Path) -> Iterator[tuple[LiveService, Receiver]]:
    """A service with a worker, and a receiver that it may send to and that is away."""
    model = save_tiny_model(directory / "tiny")
    receiver = Receiver(make_authority(directory / "authority"))
    with deployments([model.parent]) as deploy:
        service = deploy(lease_seconds=60, shard_tokens=65_536, **receiver.environment).service
        service.start_worker()
        yield service, receiver
        receiver.stop()


def audits(service: LiveService, model: str, texts: str, seconds: float) -> dict[str, float]:
    """Audits one after another for so long: the seconds of each by its id."""
    ended: dict[str, float] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or not ended:
        began = time.monotonic()
        # Without evidence that the next one could be derived from.
        audit = service.audit(model, texts, metrics=["nl"], options={"token_evidence": False})
        assert service.end_of(audit)["status"] == "succeeded"
        ended[audit] = time.monotonic() - began
    return ended


def deliveries(service: LiveService, webhook_id: str, status: str | None = None) -> list[dict[str, int]]:
    """The deliveries of a webhook, of a status."""
    found: list[dict[str, int]] = []
    query: dict[str, str | int] = {"limit": 100} | ({} if status is None else {"status": status})
    while True:
        page = service.client.get(f"/v1/webhooks/{webhook_id}/deliveries", params=query).json()
        found += page["data"]
        if not page["has_more"]:
            return found
        query["cursor"] = page["next_cursor"]


if __name__ == "__main__":
    main()
