"""Promise 8 through the whole service: the same audit gives the same numbers, however it is cut.

The oracle is an identity: bit-equal for the same audit, within 1e-5 for other shards and another order.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.deployments import Deploy

# Without evidence, from which the second audit would follow without being scored.
REQUEST = {
    "metrics": ["nl", "extraction", "verbatim", "p_z", "membership"],
    "options": {"prefix_tokens": 16, "suffix_tokens": 8, "token_evidence": False},
}


def by_text(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["text_id"]: row for row in rows}


def test_the_same_audit_twice_is_bit_equal_and_cuts_do_not_matter(
    deploy: Deploy, tiny_checkpoint: Path, audited_texts: list[dict[str, Any]]
) -> None:
    texts = audited_texts[:120]
    whole, cut = deploy(), deploy(shard_tokens=1000)
    audits = []
    for deployment, order in ((whole, texts), (whole, texts), (cut, texts[::-1])):
        service = deployment.service
        if not service.workers:
            service.start_worker()
        audit = service.audit(service.register(tiny_checkpoint), service.upload(order), **REQUEST)
        assert service.end_of(audit)["status"] == "succeeded"
        audits.append(service.scores(audit))
    first, second, otherwise_cut = audits
    assert first == second
    reference, other = by_text(first), by_text(otherwise_cut)
    assert reference.keys() == other.keys()
    for text_id, row in reference.items():
        for number in ("nl", "nl_byte"):
            assert other[text_id][number] == pytest.approx(row[number], abs=1e-5)
        assert other[text_id]["log_likelihood"] == pytest.approx(row["log_likelihood"], rel=1e-5, abs=1e-5)
        for verdict in ("extraction", "verbatim"):
            assert other[text_id][verdict] == row[verdict]
