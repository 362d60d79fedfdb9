"""What a receipt of erasure says, and its envelope: an in-toto statement, signed as evidence is."""

from datetime import datetime
from typing import Any, Final, Literal

import orjson

from app.signing.dsse import seal
from app.signing.in_toto import PAYLOAD_TYPE, STATEMENT_TYPE
from app.signing.keys import SigningKeys

Reason = Literal["deleted", "expired"]

PREDICATE_TYPE: Final = "https://memaudit.dev/attestation/erasure/v0.1"


def state_erasure(
    *,
    text_set: str,
    hmac_sha256: str | None,
    text_count: int,
    byte_count: int,
    evidence_rows: int | None,
    reason: Reason | None,
    erased_at: datetime,
    software: str,
) -> dict[str, Any]:
    """The statement that the texts of a set were erased.

    Args:
        text_set: its public id.
        hmac_sha256: its keyed digest; None if it had no texts.
        text_count: how many texts it had.
        byte_count: of all of them in UTF-8.
        evidence_rows: of how many texts under audits the token evidence went with them; None if it was
            erased by a release that did not count.
        reason: at a client's request, or by the retention of the tenant; None likewise.
        erased_at: when.
        software: the release that says so.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": [subject_of(text_set, hmac_sha256)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "text_set": text_set,
            "hmac_sha256": hmac_sha256,
            "text_count": text_count,
            "byte_count": byte_count,
            "evidence_rows": evidence_rows,
            # What is left anywhere of the sealed texts, as in a backup, opens no more without it.
            "data_key": "erased",
            "reason": reason,
            "erased_at": erased_at.isoformat(),
            "software": software,
        },
    }


def subject_of(text_set: str, hmac_sha256: str | None) -> dict[str, Any]:
    """The subject of a receipt."""
    return {"name": f"text-set/{text_set}", "digest": {"hmac_sha256": hmac_sha256} if hmac_sha256 else {}}


def sign_erasure(statement: dict[str, Any], keys: SigningKeys) -> bytes:
    """The envelope of a receipt."""
    return seal(PAYLOAD_TYPE, orjson.dumps(statement), keys)
