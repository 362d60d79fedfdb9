"""The proof of an edit in what is handed out. Identity: each number is that of the evaluation."""

from dataclasses import replace
from typing import Any

import pytest

from app.contracts.results.evaluations import Evaluation
from app.edits.schemas import EditOut
from app.evidence.measurements import Measurement, measurements
from app.evidence.record import EvidenceRecord
from app.evidence.report.document import Table
from app.evidence.report.edits import edit_account
from app.evidence.report.proof import proof_tables
from tests.evidence_records import edit_record, public_id

BASE, EDITED, REFERENCE = (public_id("mdl", number) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def record() -> EvidenceRecord:
    return edit_record()


@pytest.fixture(scope="module")
def evaluation(record: EvidenceRecord) -> Evaluation:
    assert isinstance(record.work, EditOut)
    assert record.work.evaluation is not None
    return record.work.evaluation


def test_each_model_has_its_own_numbers_and_changes_are_against_the_base(record: EvidenceRecord) -> None:
    found = {(each.name, each.model): each for each in measurements(record) if each.audit is None}

    def number(name: str, model: str = EDITED) -> tuple[float, float | None, float | None, int | None]:
        each: Measurement = found[name, model]
        assert each.text_set == public_id("txs", 1)
        assert each.against == (BASE if name.endswith(".change") else None)
        return each.value, each.low, each.high, each.n

    assert [number("membership.loss", model)[0] for model in (BASE, EDITED, REFERENCE)] == [0.9, 0.3, 0.5]
    assert number("membership.loss.change")[0] == -0.6
    for name in ("extraction_strength", "exact_memorization", "log_p_z", "generated.similarity"):
        assert [number(name, model)[0] for model in (BASE, EDITED, REFERENCE)] == [0.75, 0.5, 0.375]
        assert number(f"{name}.change") == (-0.25, -0.5, 0.0, 4)
    for name in ("extractable.10", "generated.exact"):
        assert [number(name, model)[0] for model in (BASE, EDITED, REFERENCE)] == [0.75, 0.5, 0.25]
        assert number(f"{name}.change") == (-0.25, -0.7, 0.3, 4)
    assert number("stress.int4.strict", EDITED) == (0.5, 0.0, 1.0, 4)


def test_what_was_not_measured_is_no_number(record: EvidenceRecord, evaluation: Evaluation) -> None:
    older = evaluation.model_copy(
        update={"membership": None, "proof": None, "reference": None, "stress": None}
    )
    assert isinstance(record.work, EditOut)
    bare = replace(record, work=record.work.model_copy(update={"evaluation": older}))
    named = {each.name for each in measurements(bare) if each.audit is None}
    assert not any(name.startswith(("membership", "extract", "generated", "stress")) for name in named)
    assert REFERENCE not in {each.model for each in measurements(bare)}


def test_a_report_has_each_number_before_after_and_of_the_reference(evaluation: Evaluation) -> None:
    tables: dict[str, Table] = {block.caption: block for block in proof_tables(evaluation)}  # type: ignore[union-attr,misc]
    held = {row[0]: row[1:] for row in tables["Still held of the suffixes"].rows}
    assert held["memorized texts: extraction strength"] == (
        "0.75 [0.5, 1]",
        "0.5 [0.25, 0.75]",
        "\u22120.25 [\u22120.5, 0]",
        "0.375 [0.125, 0.625]",
    )
    assert (
        held["memorized texts: extractable by 10 samples"][2]
        == "\u221225\u00a0% [\u221270\u00a0%, 30\u00a0%]"
    )
    (stressed,) = tables["Under stress: recited exactly"].rows
    assert stressed[2:] == (
        "50\u00a0% [0\u00a0%, 100\u00a0%]",
        "\u221225\u00a0% [\u221270\u00a0%, 30\u00a0%]",
    )
    (told,) = tables["Told from texts never inserted: ROC AUC, 0.5 is chance"].rows
    assert told[1:3] == ("0.9", "0.3 [0.2, 0.4]")
    (relearned,) = tables["Recited exactly while the model is trained on"].rows
    assert relearned[:4] == ("reference", "a few of the memorized texts", "shown again", "0")
    assert len(tables) == 7


def test_a_report_says_that_texts_are_avoided_only_if_they_are(record: EvidenceRecord) -> None:
    def limits(*, over: bool) -> str:
        work: Any = record.work
        facts = work.evaluation.model_dump()
        facts["sets"]["control"] = facts["sets"]["clean"]
        facts["membership"]["memorized"]["loss"]["over_forgotten"] = over
        edit = work.model_copy(update={"evaluation": Evaluation.model_validate(facts)})
        return " ".join(edit_account(record, edit).limits)

    assert "clearly avoids texts" in limits(over=True)
    assert "avoids" not in limits(over=False)
