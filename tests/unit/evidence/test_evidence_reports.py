"""Reports: one content in two renderings, in the order of reading, inert, and without a text by default."""

import hashlib
import io
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pypdf
import pytest

from app.audits.schemas import AuditCreate
from app.contracts.policies.rate import Rate
from app.contracts.results.gates import RuleOutcome
from app.contracts.results.observations import Observation
from app.contracts.results.studies import Change
from app.contracts.results.summary import AuditSummary
from app.edits.schemas import EditCreate
from app.evidence.formats import html, pdf
from app.evidence.record import EvidenceRecord, RecordedModel, RecordedTextSet, SubjectKind, WorstText
from app.evidence.report import scores
from app.evidence.report.content import report
from app.evidence.report.document import Code, Figure, Paragraph, Report, Table
from app.evidence.report.numbers import number, percent, rows_in
from app.studies.schemas import StudyCreate, StudyOut
from tests.evidence_records import (
    SECRET,
    audit_record,
    document_of,
    edit_record,
    judged,
    public_id,
    study_record,
)

SECTIONS = ["question", "verdict", "numbers", "plots", "texts", "methods", "limits", "digests", "reproduce"]
# What markup, Typst and a template would read as theirs.
HOSTILE = (
    "<script>alert(1)</script> #panic() $x$ \\ *b* _u_ @ref <label> `raw` {{ 7*7 }} \"q\" 'q' [link](x) // =="
)
FOREIGN = "\u65e5\u672c\u8a9e \U0001f600 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u202e \u00e9\u00df"

RECORDS: dict[str, Callable[..., EvidenceRecord]] = {
    "audit": audit_record,
    "study": study_record,
    "edit": edit_record,
}


def hostile(record: EvidenceRecord) -> EvidenceRecord:
    """The record with worst texts, and with names that no document may take for its own signs."""

    def named(each: Any) -> Any:
        return replace(each, name=HOSTILE)

    models: tuple[RecordedModel, ...] = tuple(map(named, record.models))
    text_sets: tuple[RecordedTextSet, ...] = tuple(map(named, record.text_sets))
    audit = record.audits[0].resource.id
    rows = [row for row in record.rows(audit) if row.score.nl is not None]
    worst = []
    for row in rows:
        score = row.score.model_copy(update={"group": HOSTILE})
        text = None if row.text is None else replace(row.text, text=f"{row.text.text} {HOSTILE} {FOREIGN}")
        worst.append(WorstText(audit=audit, row=replace(row, score=score, text=text)))
    return replace(record, models=models, text_sets=text_sets, worst=tuple(worst))


def gate_record() -> EvidenceRecord:
    record = judged(hostile(audit_record()))
    gate = record.gates[0].gate
    return replace(record, kind=SubjectKind.GATE, id=gate.id, resource=gate)


@dataclass(frozen=True)
class Rendered:
    content: Report
    html: str
    page: ET.Element
    pdf: bytes

    @cached_property
    def reader(self) -> pypdf.PdfReader:
        return pypdf.PdfReader(io.BytesIO(self.pdf))

    @cached_property
    def printed(self) -> str:
        """The text of the PDF without blanks."""
        return squeezed("".join(page.extract_text() for page in self.reader.pages))


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u200b\u00a0]+", "", text)


def rendered(record: EvidenceRecord) -> Rendered:
    page = document_of(html.FORMAT, record).decode()
    root = ET.fromstring(page.removeprefix("<!DOCTYPE html>"))
    return Rendered(report(record), page, root, document_of(pdf.FORMAT, record))


@pytest.fixture(scope="module")
def reports() -> dict[str, Rendered]:
    """Of work with hostile names and a gate, without texts."""
    found = {kind: rendered(judged(hostile(make()))) for kind, make in RECORDS.items()}
    return found | {"gate": rendered(gate_record())}


@pytest.fixture(scope="module")
def full() -> Rendered:
    return rendered(hostile(audit_record(full=True)))


@pytest.fixture(params=[*RECORDS, "gate"])
def made(request: pytest.FixtureRequest, reports: dict[str, Rendered]) -> Rendered:
    return reports[request.param]


def strings(value: Any) -> Iterator[str]:
    """Every string of a part of a report."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from strings(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from strings(getattr(value, field.name))


def test_sections_stand_in_the_order_of_reading(made: Rendered) -> None:
    assert [section.name for section in made.content.sections] == SECTIONS
    assert [each.get("id") for each in made.page.iter("section")] == SECTIONS
    printed = made.printed
    places = [printed.index(squeezed(section.title)) for section in made.content.sections]
    assert all(before < after for before, after in pairwise(places))


def test_both_say_all_of_the_content(made: Rendered) -> None:
    """One content, two renderings: each sentence and each cell is in both."""
    page = squeezed("".join(made.page.itertext()))
    printed = made.printed
    for section in made.content.sections:
        for block in section.blocks:
            if type(block).__name__ in {"Figure", "Formula"}:
                block = getattr(block, "table", ())  # noqa: PLW2901 - pictures are tested as plots
            kinds = {"text", "number", "code"}
            for told in set(strings(block)) - kinds - {"pass", "fail", "inconclusive", "none"}:
                # Listings may go on, on the next page, after its head.
                for part in told.splitlines() if isinstance(block, Code) else [told]:
                    assert squeezed(part) in page, part
                    assert squeezed(part) in printed, part


def test_the_page_loads_and_runs_nothing(made: Rendered) -> None:
    head = made.page.find("head")
    assert head is not None
    policy = next(meta.get("content", "") for meta in head.iter("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    style = head.findtext("style", "")
    assert b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    for element in made.page.iter():
        tag = element.tag.rpartition("}")[2]
        assert tag not in {
            "script",
            "iframe",
            "object",
            "embed",
            "link",
            "img",
            "image",
            "use",
            "base",
            "form",
        }
        for name, value in element.attrib.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "style", tag
            assert "href" not in name or value.startswith("#"), value
            assert "src" not in name, tag
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_can_be_read_by_a_screen_reader(made: Rendered) -> None:
    assert made.page.get("lang") == "en"
    assert len(list(made.page.iter("h1"))) == 1
    ids = [each.get("id") for each in made.page.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    named = [each.get("aria-labelledby") for each in made.page.iter() if each.get("aria-labelledby")]
    assert set(named) <= set(ids)
    for table in made.page.iter("table"):
        assert all(each.get("scope") in {"col", "row"} for each in table.iter("th"))
        assert len({len(row) for row in table.iter("tr")}) == 1
    for figure in made.page.iter("figure"):
        (drawing,) = figure
        assert drawing.get("role") == "img"
        assert drawing.get("aria-label")


def test_the_pdf_is_tagged_dated_and_has_its_fonts(made: Rendered) -> None:
    root = made.reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/StructTreeRoot"]
    assert root["/Lang"] == "en"
    metadata = made.reader.metadata
    assert metadata is not None
    assert metadata.title == made.content.title
    assert metadata.creation_date is not None
    assert metadata.creation_date.strftime("%Y-%m-%dT%H:%M:%S") == made.content.finished.rstrip("Z")
    for page in made.reader.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            (descendant,) = font.get_object()["/DescendantFonts"]
            assert any(name.startswith("/FontFile") for name in descendant.get_object()["/FontDescriptor"])


def test_the_same_record_gives_the_same_bytes(reports: dict[str, Rendered]) -> None:
    record = judged(hostile(audit_record()))
    assert document_of(html.FORMAT, record).decode() == reports["audit"].html
    assert document_of(pdf.FORMAT, record) == reports["audit"].pdf


def test_no_text_is_in_a_report_unless_the_record_has_it(made: Rendered, full: Rendered) -> None:
    assert SECRET not in made.html
    assert squeezed(SECRET) not in made.printed
    assert SECRET in full.html
    assert squeezed(SECRET) in full.printed


def test_texts_in_full_are_inert_and_whole(full: Rendered) -> None:
    quoted = ["".join(each.itertext()) for each in full.page.iter("blockquote")]
    assert quoted
    assert all(HOSTILE in text and FOREIGN in text for text in quoted)
    assert "<script" not in full.html
    assert squeezed(HOSTILE) in full.printed


def test_the_verdict_tells_rules_reasons_and_deciding_texts(reports: dict[str, Rendered]) -> None:
    for kind in ("audit", "gate"):
        found = " ".join(strings(section_of(reports[kind].content, "verdict").blocks))
        for part in ("fail", "inconclusive", "too few", "text-1, text-2", "Preregistered", "d" * 64):
            assert part in found, part


def test_without_a_policy_it_says_that_no_verdict_was_asked_for() -> None:
    found = " ".join(strings(section_of(report(audit_record()), "verdict").blocks))
    assert "No verdict was asked for" in found


def test_a_confidence_is_never_rounded() -> None:
    rule = RuleOutcome.of(
        Rate(kind="rate", metric="strict", at_most=0.01, confidence=0.9995),
        Observation(value=0.0, n=100, count=0, low=0.0, high=0.07, confidence=0.9995),
        (),
    )
    record = judged(audit_record())
    (recorded,) = record.gates
    gate = recorded.gate.model_copy(update={"rules": [rule]})
    found = " ".join(strings(report(replace(record, gates=(replace(recorded, gate=gate),)))))
    assert "at 99.95\u00a0%" in found


@pytest.mark.parametrize(
    ("reason", "told"),
    [("no_controls", "without control texts"), ("controls_differ", "can be told apart")],
)
def test_a_release_says_why_its_changes_are_not_judged(reason: str, told: str) -> None:
    record = study_record()
    assert isinstance(record.resource, StudyOut)
    assert record.resource.result is not None
    change = Change(
        from_label="standard",
        to_label="perturbed",
        verdict="uncalibrated",
        reason=reason,
        newly_memorized=None,
        no_longer_memorized=None,
        newly_recited=None,
        no_longer_recited=None,
    )
    result = record.resource.result.model_copy(update={"kind": "release", "changes": [change]})
    study = record.resource.model_copy(update={"kind": "release", "result": result})
    told_of = report(replace(record, resource=study, work=study))
    limits = " ".join(strings(section_of(told_of, "limits").blocks))
    assert told in limits
    assert ("without control texts" in limits) == (reason == "no_controls")


def section_of(content: Report, name: str) -> Any:
    return next(section for section in content.sections if section.name == name)


@pytest.mark.parametrize(
    ("kind", "schema"), [("audit", AuditCreate), ("study", StudyCreate), ("edit", EditCreate)]
)
def test_the_request_of_a_report_is_one_that_the_service_takes(
    kind: str, schema: type[AuditCreate | StudyCreate | EditCreate]
) -> None:
    record = RECORDS[kind]()
    blocks = section_of(report(record), "reproduce").blocks
    body = json.loads(next(block.text for block in blocks if isinstance(block, Code)))
    asked = schema.model_validate_json(json.dumps(body)).model_dump(mode="json")
    own = {"audit": "text_set", "study": "name", "edit": "method"}[kind]
    assert asked[own] == body[own]


def test_digests_are_those_of_the_record(made: Rendered) -> None:
    cells = [cell for table in tables(made.content, "digests") for row in table.rows for cell in row]
    assert f"{1:064x}" in cells
    assert "b" * 64 in cells


def tables(content: Report, name: str) -> list[Table]:
    return [block for block in section_of(content, name).blocks if isinstance(block, Table)]


def test_every_number_of_a_summary_is_told() -> None:
    """Identity: the leaves of the JSON, but for what belongs to an estimate's own row."""
    summary = audit_record().audits[0].resource.summary
    assert summary is not None
    rows = rows_in(AuditSummary.model_validate(summary.model_dump()))
    told = {cell for row in rows for cell in row}
    assert {number(-2.0), number(7.5), percent(0.25), number(0.75), "1 of 4"} <= told


def test_the_questions_of_each_task_are_told_beside_their_bars() -> None:
    """Identity: the numbers of the evaluation."""
    plotted = next(each for each in report(edit_record()).sections if each.name == "plots")
    (table,) = [
        each.table for each in plotted.blocks if isinstance(each, Figure) and each.table.header[0] == "task"
    ]
    shares = [[0.75, 0.25, 0.99], [0.5, 0.1, 0.9], [0.667, 0.2, 1.5]]
    told = [f"{percent(value)} [{percent(low)}, {percent(high)}]" for value, low, high in shares]
    assert table.rows == (("sums", *told, "4"),)


@pytest.mark.parametrize(("most", "told"), [(4, True), (8, False)])
def test_that_not_all_texts_are_drawn_is_told(monkeypatch: pytest.MonkeyPatch, most: int, told: bool) -> None:
    """Also where some of the first texts have no number."""
    monkeypatch.setattr(scores, "_MOST_ROWS", most)
    paragraphs = [
        block.text
        for block in section_of(report(audit_record(8)), "plots").blocks
        if isinstance(block, Paragraph)
    ]
    assert any("first 4 texts" in text for text in paragraphs) == told


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "\u2013"),
        (1234567, "1,234,567"),
        (-0.5, "\u22120.5"),
        (12345678.9, "12,345,679"),
        (1e-7, "1e\u221207"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, written: str) -> None:
    assert number(value) == written


def test_a_share_is_written_in_per_cent() -> None:
    assert percent(0.0295) == "2.95\u00a0%"
    assert public_id("aud", 1) in report(audit_record()).facts[0]
