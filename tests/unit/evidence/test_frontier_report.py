"""What a report says of the settings that an edit tried. Oracles: the points' own numbers."""

from typing import Any

from app.contracts.results.frontier import FrontierPoint, GivenUp
from app.edits.schemas import EditOut
from app.evidence.report.document import Figure, Table
from app.evidence.report.frontier import what_was_tried
from tests.evidence_records import edit_record

GIVEN_UP = GivenUp(perplexity=321.5, tokens=1000, of_tokens=4000)


def point(mass: float, **fields: Any) -> FrontierPoint:
    measured = {
        "perplexity": 10.0,
        "perplexity_increase": 0.05,
        "strict": None,
        "loose": None,
        "feasible": True,
        "chosen": False,
    }
    given = {"layers": [1, 2], "projections": ["up"], "keep_mass": mass}
    return FrontierPoint.model_validate(given | measured | fields)


def edit_of(points: list[FrontierPoint] | None, **constraint: float) -> EditOut:
    edit = edit_record().work
    assert isinstance(edit, EditOut)
    return edit.model_copy(update={"frontier": points, "spec": {"constraint": constraint}})


def test_every_setting_has_a_row_and_the_constraint_is_told() -> None:
    given_up = {"perplexity": None, "perplexity_increase": None, "feasible": False, "given_up": GIVEN_UP}
    points = [
        point(0.6, **given_up),
        point(0.9995, chosen=True, retain_weight=0.1, recovery_steps=30, nl_drop=0.25),
        point(0.8, perplexity_increase=0.15, feasible=False),
    ]
    (figure,) = what_was_tried(edit_of(points, max_perplexity_increase=0.125, max_nl_drop=0.3))
    assert isinstance(figure, Figure)
    table = figure.table
    assert "grow by 12.5\u00a0%" in table.caption
    assert "lose 0.3 nats per token" in table.caption
    assert [row[2] for row in table.rows] == ["60\u00a0%", "99.95\u00a0%", "80\u00a0%"]
    assert table.rows[1][3:] == ("0.1", "30", "5\u00a0%", "\u2013", "0.25", "chosen")
    assert table.rows[0][-1] == "given up at a perplexity of 321.5 after 1,000 of 4,000 tokens"
    assert table.rows[2][-1] == "not feasible"


def test_where_all_was_given_up_there_is_the_table_alone() -> None:
    points = [point(0.6, perplexity=None, perplexity_increase=None, feasible=False, given_up=GIVEN_UP)]
    (table,) = what_was_tried(edit_of(points))
    assert isinstance(table, Table)
    assert "retain set lose" not in table.caption


def test_an_edit_that_tried_nothing_says_nothing() -> None:
    assert not list(what_was_tried(edit_of(None)))
