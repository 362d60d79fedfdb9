"""`in-toto`: a Statement v1 with the `test-result` predicate, in a signed envelope."""

import orjson

from app.evidence.format import EvidenceFormat
from app.evidence.record import EvidenceRecord
from app.evidence.statement import measure, state
from app.signing.in_toto import PAYLOAD_TYPE


def render(record: EvidenceRecord) -> bytes:
    """The statement, which the service signs."""
    return orjson.dumps(state(measure(record)))


FORMAT = EvidenceFormat(
    name="in-toto",
    title="in-toto attestation, signed",
    media_type="application/vnd.in-toto.test-result+dsse",
    suffix="in-toto.json",
    render=render,
    payload_type=PAYLOAD_TYPE,
)
