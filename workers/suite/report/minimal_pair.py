"""The minimal pair: the same texts under the perturbed and the standard model (HUBBLE, section 4)."""

from workers.suite.report.audit import Audited
from workers.suite.report.dose_response import STRICT, dose_rows, of_measure
from workers.suite.report.finding import OWN_GROUPS, Finding, Panel, Row, by_group, grid
from workers.suite.report.paired import BEYOND, DIFFERENCE, compare, verdict
from workers.suite.variants import PERTURBED, STANDARD

_FORM = (
    "The two models differ in the insertions alone. These teach the perturbed model the form of such texts, "
    "as those show that were never inserted; what goes beyond that is the text itself."
)


def minimal_pair(audited: Audited) -> Finding:
    """NL under the perturbed model less NL under the standard one, text by text."""
    differences = compare(audited, PERTURBED, STANDARD)
    rows = [*differences, *of_measure(dose_rows(audited, STANDARD), STRICT)]
    recited = sum(bool(said) for said in audited.strict(STANDARD))
    return Finding(
        name="minimal-pair",
        explanation=_FORM,
        title="The minimal pair",
        question="Is it the insertions that raise the likelihood, or are some texts likelier anyway?",
        answers=(
            *(
                verdict(differences, group, "the insertions raise NL", "the insertions lower NL")
                for group in OWN_GROUPS
                if group in audited.groups
            ),
            f"The standard model recites {recited} of the {len(audited.texts)} texts.",
        ),
        rows=tuple(rows),
        grids=(grid(by_group(rows), _column),),
        panels=(
            Panel(
                "Perturbed less standard",
                "difference of NL, nats a token",
                of_measure(by_group(rows), DIFFERENCE),
                lambda row: row.group,
                baseline=0.0,
            ),
            Panel(
                "Beyond what texts gain that were never inserted",
                "difference of NL, nats a token",
                of_measure(by_group(rows), BEYOND),
                lambda row: row.group,
                baseline=0.0,
            ),
        ),
    )


def _column(row: Row) -> str:
    return "strict, standard" if row.measure == STRICT else row.measure
