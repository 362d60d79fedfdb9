"""The measurements of a shard: what an audit asks beside the scores of its texts, added to these."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from app.contracts.audits import AuditOptions
from app.store.texts import ClearText
from workers.audits.rows import measured_text
from workers.science.measurements.measurement import Subject
from workers.science.measurements.options import MeasurementOptions, NearVerbatimOptions, WindowOptions
from workers.science.measurements.registry import MEASUREMENTS
from workers.science.progress import counted_from
from workers.science.scoring.texts import TextScore


def measurement_options(options: AuditOptions) -> MeasurementOptions:
    """What an audit asks of single measurements, as these take it; their defaults where it says nothing."""
    asked: dict[str, Any] = {}
    if options.windows is not None:
        asked["windows"] = WindowOptions(**options.windows.model_dump())
    if options.near_verbatim is not None:
        asked["near_verbatim"] = NearVerbatimOptions(**options.near_verbatim.model_dump())
    return MeasurementOptions(**asked)


def add_measurements(
    subject: Subject,
    names: Sequence[str],
    texts: Sequence[ClearText],
    scores: Sequence[TextScore],
    on_progress: Callable[[int], None],
) -> list[TextScore]:
    """The scores with what the measurements found among their metrics; texts with an error are left out.

    Args:
        subject: what is measured, and how.
        names: of the measurements.
        texts: the texts.
        scores: of these texts.
        on_progress: told how many texts are done, those of all measurements so far together; may raise.
    """
    places = [place for place, score in enumerate(scores) if score.error is None]
    inputs = [measured_text(texts[place]) for place in places]
    found = list(scores)
    for position, name in enumerate(names):
        report = counted_from(position * len(texts), on_progress)
        results = MEASUREMENTS[name].measure(subject, inputs, report)
        for place, result in zip(places, results, strict=True):
            if result is not None:
                found[place] = replace(found[place], metrics={**found[place].metrics, name: result})
        report(len(texts))
    return found
