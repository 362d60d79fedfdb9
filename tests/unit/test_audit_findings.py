"""What a finishing job finds of single texts, as rows."""

from uuid import UUID

from app.store.score_findings import FindingRow
from workers.audits.findings import merged

AUDIT = UUID(int=1)


def test_rows_of_two_origins_become_one_for_each_text_by_ordinal() -> None:
    judged = [FindingRow(audit_id=AUDIT, ordinal=ordinal, p_value=0.5) for ordinal in (0, 2, 3)]
    worth = [FindingRow(audit_id=AUDIT, ordinal=ordinal, equivalent_duplicates=4.0) for ordinal in (1, 2)]
    found = list(merged(iter(judged), iter(worth)))
    assert [(row.ordinal, row.p_value, row.equivalent_duplicates) for row in found] == [
        (0, 0.5, None),
        (1, None, 4.0),
        (2, 0.5, 4.0),
        (3, 0.5, None),
    ]
    assert list(merged(iter(()), iter(worth))) == worth
