"""Where webhooks of the load go: a receiver that says no at times, and notes what it took."""

import random
import threading
import uuid
from pathlib import Path
from typing import Final

from standardwebhooks import WebhookVerificationError

from tests.chaos.client import Client
from tests.chaos.inputs import CANARY
from tests.chaos.record import Record
from tests.tls_servers import make_authority
from tests.webhook_receiver import Received, Receiver, Reply

# Not more than the service waits for.
_LATE_SECONDS: Final = 0.3
_REFUSALS: Final = (429, 500, 503)


class Hook:
    """A receiver, and the webhook that leads to it."""

    def __init__(self, directory: Path, record: Record, seed: int) -> None:
        self.receiver = Receiver(make_authority(directory / "authority"))
        self.receiver.answer = self._answer
        self.taken: set[str] = set()
        self._record = record
        self._dice = random.Random(seed)
        self._secret: str | None = None
        self._may_be_told = threading.Lock()

    def subscribe(self, client: Client) -> None:
        """Ask to be told of everything from now on."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        answer = client.send("POST", "/v1/webhooks", json={"url": self.receiver.url}, headers=key)
        self._secret = answer.json()["secret"]

    def stop(self) -> None:
        self.receiver.stop()

    def start(self) -> None:
        self.receiver.start()

    def _answer(self, request: Received) -> Reply:
        with self._may_be_told:
            self._check(request)
            dice = self._dice.random()
            if dice < 0.1:
                return Reply(status=self._dice.choice(_REFUSALS))
            self.taken.add(request.id.partition("_")[2].replace("-", ""))
            return Reply(after=_LATE_SECONDS if dice < 0.2 else 0.0)

    def _check(self, request: Received) -> None:
        self._record.count("webhooks received")
        if CANARY.encode() in request.body:
            self._record.violate("a text is in a webhook")
        try:
            request.verified(self._secret or "")
        except WebhookVerificationError:
            self._record.violate("a webhook's signature is wrong")
