"""Plots as images of their own: a page shows them at once, and draws them when they are looked at."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Final
from uuid import UUID

from fastapi import Response
from sqlalchemy.orm import Session

from app.audits.schemas import AuditOut
from app.audits.service import read_audit
from app.contracts.edit_methods.kfac import Constraint
from app.edits.schemas import EditOut
from app.edits.service import read_edit
from app.errors import NotFound
from app.http.dependencies import RenderingsDependency, StoreDependency, read_id
from app.pages.page_route import page_router
from app.pages.visitors import AuditVisitor, EditVisitor
from app.plots import (
    Distribution,
    Drawing,
    dose_response,
    edit_drawings,
    p_values,
    pair,
    pair_difference,
    score_distribution,
    svg_bytes,
    trajectory,
)
from app.plots.distributions import BINS, bin_edges
from app.plots.drawing import DARK_INK
from app.rendering.pool import Renderings
from app.store.core.identifiers import Prefix, parse_id
from app.store.score_distributions import count_nl, count_p_values, nl_range
from app.studies.schemas import StudyOut
from app.studies.service import read_study

_P_VALUE_BINS: Final = 20
_HEADERS: Final = {
    # It is a document too, where it is opened by itself.
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    # Results do not change; they are kept for the session that asked, and for no other.
    "Cache-Control": "private, max-age=300",
    "Vary": "Cookie",
}

Draw = Callable[[], Drawing | None]

router = page_router()


class Ink(StrEnum):
    """The colour of text and axes. An image does not know the page that it is on."""

    DARK = "dark"
    LIGHT = "light"


_INKS: Final = {Ink.DARK: DARK_INK, Ink.LIGHT: "#e6ebf0"}


@router.get("/audits/{audit_id}/plots/{name}.svg")
async def plot_audit(
    audit_id: str,
    name: str,
    principal: AuditVisitor,
    store: StoreDependency,
    renderings: RenderingsDependency,
    ink: Ink = Ink.DARK,
) -> Response:
    """A plot of an audit."""
    identifier = read_id(Prefix.AUDIT, audit_id)
    audit = await store.run(read_audit, principal.tenant_id, identifier)
    if name == "distribution":
        scores = await store.run_long(_count_scores, audit, identifier)
        return await _answer(renderings, ink, None if scores is None else partial(score_distribution, scores))
    if name == "p-values":
        return await _answer(
            renderings, ink, partial(p_values, await store.run_long(_count_p_values, identifier))
        )
    return await _answer(renderings, ink, _plots_of_audit(audit).get(name))


@router.get("/studies/{study_id}/plots/{name}.svg")
async def plot_study(
    study_id: str,
    name: str,
    principal: AuditVisitor,
    store: StoreDependency,
    renderings: RenderingsDependency,
    ink: Ink = Ink.DARK,
) -> Response:
    """A plot of a study."""
    study = await store.run(read_study, principal.tenant_id, read_id(Prefix.STUDY, study_id))
    return await _answer(renderings, ink, _plots_of_study(study).get(name))


@router.get("/edits/{edit_id}/plots/{name}.svg")
async def plot_edit(
    edit_id: str,
    name: str,
    principal: EditVisitor,
    store: StoreDependency,
    renderings: RenderingsDependency,
    ink: Ink = Ink.DARK,
) -> Response:
    """A plot of an edit."""
    edit = await store.run(read_edit, principal, read_id(Prefix.EDIT, edit_id))
    return await _answer(renderings, ink, partial(_draw_edit, edit, name))


async def _answer(renderings: Renderings, ink: Ink, draw: Draw | None) -> Response:
    """A drawing, made when it is its turn.

    Raises:
        NotFound: there is no such plot, or nothing to draw.
        ServiceUnavailable: too many are asked for.
        RenderingTimedOut: it takes too long.
    """
    drawing = draw() if draw else None
    if drawing is None:
        raise NotFound("There is no such plot.")
    async with renderings.turn() as run_apart:
        svg = await run_apart(svg_bytes, drawing)
    svg = svg.replace(b"<svg ", f'<svg color="{_INKS[ink]}" '.encode(), 1)
    return Response(svg, headers=_HEADERS, media_type="image/svg+xml")


def _plots_of_audit(audit: AuditOut) -> dict[str, Draw]:
    summary = audit.summary
    if summary is None:
        return {}
    fit = next((each for each in summary.dose_fits or () if each.group is None), None)
    return {
        "dose-nl": partial(dose_response, summary.dose_response, "nl", fit),
        "dose-strict": partial(dose_response, summary.dose_response, "strict"),
    }


def _plots_of_study(study: StudyOut) -> dict[str, Draw]:
    result = study.result
    if result is None:
        return {}
    curves = trajectory if study.kind == "trajectory" else pair
    plots: dict[str, Draw] = {
        "nl": partial(curves, result.models, "nl"),
        "strict": partial(curves, result.models, "strict"),
    }
    for place, comparison in enumerate(result.comparisons):
        plots[f"difference-{place}"] = partial(pair_difference, comparison)
    return plots


def _draw_edit(edit: EditOut, name: str) -> Drawing | None:
    evaluation = edit.evaluation
    constraint = Constraint.model_validate(edit.spec.get("constraint") or {})
    drawings = edit_drawings(
        evaluation.sets if evaluation else {},
        (evaluation and evaluation.tasks) or (),
        edit.frontier or (),
        constraint.max_perplexity_increase,
        edit.receipt,
    )
    return drawings.get(name)


def _count_scores(session: Session, audit: AuditOut, audit_id: UUID) -> Distribution | None:
    """The NL of an audit's texts, and of its control texts if there are some."""
    control = audit.companions.control if audit.companions else None
    control_id = parse_id(Prefix.AUDIT, control) if control else None
    found = nl_range(session, [audit_id, *([control_id] if control_id else [])])
    if found is None:
        return None
    edges = bin_edges(*found)
    low, high = edges[0], edges[-1]
    return Distribution(
        edges,
        tuple(count_nl(session, audit_id, low, high, BINS)),
        tuple(count_nl(session, control_id, low, high, BINS)) if control_id else None,
    )


def _count_p_values(session: Session, audit_id: UUID) -> Distribution:
    """The p-values of an audit's texts."""
    return Distribution(
        bin_edges(0, 1, _P_VALUE_BINS), tuple(count_p_values(session, audit_id, _P_VALUE_BINS))
    )
