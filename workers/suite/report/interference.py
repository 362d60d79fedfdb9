"""Interference: what other insertions do to a domain's memorization (HUBBLE's interference models)."""

from workers.suite.report.audit import Audited
from workers.suite.report.dose_response import of_measure
from workers.suite.report.finding import Finding, Panel, Row, by_group, grid, written
from workers.suite.report.paired import BEYOND, DIFFERENCE, compare, shown_both_ways
from workers.suite.variants import DOMAINS, PERTURBED, domain_of, interference_model


def interference(audited: Audited) -> Finding:
    """NL of a domain's texts under the model of that domain alone less NL under the perturbed one."""
    rows: list[Row] = []
    for name in DOMAINS:
        compared = compare(audited, interference_model(name), PERTURBED)
        rows += [row for row in by_group(compared) if domain_of(row.group) == name]
    told = [row for row in of_measure(rows, DIFFERENCE) if row.duplicates]
    shown = shown_both_ways(rows)
    answer = f"{len(shown)} of {len(told)} differences count; one in twenty excludes 0 by chance."
    if shown:
        largest = max(shown, key=lambda row: abs(row.value))
        answer += (
            f" The largest is {written(largest)} nats a token ({largest.group}, {largest.duplicates} "
            "duplicates; negative = memorized less where the others are left out)."
        )
    return Finding(
        name="interference",
        title="Interference",
        question="Does it matter to a domain's texts whether those of the others are inserted too?",
        explanation=(
            "NL under the model of one domain alone less NL under that of all three. A difference counts if "
            "it excludes 0 both as it is and beyond the same of texts that were never inserted."
        ),
        answers=(answer,),
        rows=tuple(rows),
        grids=(grid(rows, lambda row: row.measure),),
        panels=tuple(
            Panel(
                title,
                "difference of NL, nats a token",
                of_measure(rows, measure),
                lambda row: row.group,
                baseline=0.0,
            )
            for title, measure in (
                ("One domain alone less all three", DIFFERENCE),
                ("Beyond never inserted", BEYOND),
            )
        ),
    )
