"""What events tell of: the types that there are, as lists and webhooks say them."""

from typing import Final, Literal, TypeAlias, get_args

EventType: TypeAlias = Literal[
    "audit.succeeded",
    "audit.failed",
    "audit.cancelled",
    "study.succeeded",
    "study.failed",
    "study.cancelled",
    "edit.succeeded",
    "edit.failed",
    "edit.cancelled",
    "gate.passed",
    "gate.failed",
    "gate.inconclusive",
    "gate.undecided",
    "gate.cancelled",
    "version.registered",
    "version.succeeded",
    "version.failed",
    "version.cancelled",
    "language_model.ready",
    "language_model.rejected",
    "language_model.deleted",
    "text_set.ready",
    "text_set.failed",
    "text_set.erased",
]
EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)
# Sent to one webhook when its owner asks for it, and no event.
TEST_TYPE: Final = "webhook.test"
