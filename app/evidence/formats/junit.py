"""`junit`: the report that continuous integration takes: a suite for each policy, a test case for each rule.

What is inconclusive is an error: it must not look like a test that was passed, nor like one that may be
skipped. Work that no gate has judged has one suite of its own, on whether all texts could be scored.
"""

import re
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from app.evidence.format import EvidenceFormat
from app.evidence.judged import Judged, Standard, standards
from app.evidence.record import EvidenceRecord

_SUITE: Final = "testsuite"
_INDETERMINATE: Final = "error"
# What XML 1.0 has no way to write.
_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(record: EvidenceRecord) -> bytes:
    """The report of a record."""
    root = Element("testsuites", name=f"memaudit {record.kind} {record.id}")
    for standard in standards(record):
        root.append(_suite_of_rules(record, standard))
    if not len(root):
        root.append(_suite_of_scores(record))
    for total in ("tests", "failures", "errors"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    indent(root)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _suite_of_rules(record: EvidenceRecord, standard: Standard) -> Element:
    version = f" (version {standard.version})" if standard.version else ""
    suite = _suite(record, standard.name + version, standard.facts)
    for judged in standard.judged:
        case = _case(suite, standard.name, judged.identifier)
        if judged.outcome != "pass":
            tag = "failure" if judged.outcome == "fail" else _INDETERMINATE
            told = SubElement(case, tag, type=judged.reason or judged.outcome)
            told.set("message", _clean(judged.statement))
            told.text = _clean("\n".join(_details(judged)))
    return _counted(suite)


def _details(judged: Judged) -> Iterator[str]:
    yield judged.rule
    yield from (f"{name}: {value}" for name, value in judged.observed.items())
    if judged.deciding_texts:
        yield "decided by " + " ".join(judged.deciding_texts)


def _suite_of_scores(record: EvidenceRecord) -> Element:
    suite = _suite(record, f"{record.kind} {record.id}", {"outcome": "no rule was applied"})
    for audit in record.principal_audits:
        summary = audit.resource.summary
        case = _case(suite, record.kind, f"every text of {audit.resource.id} could be scored")
        if summary is None or summary.errors:
            unscored = "no summary" if summary is None else f"{summary.errors} of {summary.texts} texts"
            SubElement(case, _INDETERMINATE, type="unscored", message=f"Could not be scored: {unscored}.")
    return _counted(suite)


def _suite(record: EvidenceRecord, name: str, facts: dict[str, str]) -> Element:
    suite = Element(_SUITE, name=_clean(name), timestamp=record.finished_at.strftime("%Y-%m-%dT%H:%M:%S"))
    properties = SubElement(suite, "properties")
    for key, value in {"subject": record.id, "software": f"memaudit {record.software}", **facts}.items():
        SubElement(properties, "property", name=key, value=_clean(value))
    return suite


def _case(suite: Element, classname: str, name: str) -> Element:
    return SubElement(suite, "testcase", classname=_clean(classname), name=_clean(name))


def _counted(suite: Element) -> Element:
    """The suite with the number of its cases."""
    for total, tag in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
        suite.set(total, str(len(suite.findall(tag))))
    return suite


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


FORMAT = EvidenceFormat(
    name="junit",
    title="JUnit report",
    media_type="application/xml",
    suffix="junit.xml",
    render=render,
)
