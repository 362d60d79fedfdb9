"""Why a rule is `inconclusive`: the stable codes, and what each says to people."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

Reason = Literal[
    "not_measured",
    "no_texts",
    "no_labels",
    "no_interval",
    "uncalibrated",
    "too_few_controls",
    "too_few_texts",
    "texts_unmeasured",
    "texts_undecided",
    "interval_spans_limit",
]

# Whole sentences: why, and where something would change that, what. Backticks mark words of the API.
REASONS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        "not_measured": "What it needs was not measured: ask for the metric, clean texts or reference model.",
        "no_texts": "No text is in scope.",
        "no_labels": "It takes texts that are known to be members of the training data and texts that are "
        "known not to be; one kind or both are missing.",
        "no_interval": "The numbers have no interval: there are too few of them, or they are all alike.",
        "uncalibrated": "The texts could not be compared with control texts: there are none, or they cannot "
        "be shown to be like the texts.",
        "too_few_controls": "The control texts are too few to name memorized texts if there are only as many "
        "as the rule's `detects`, which is 1 unless it says otherwise. More controls would decide it, or a "
        "larger `detects`, with which fewer memorized texts may go unseen.",
        "too_few_texts": "There are too few texts for the confidence that is asked for, whatever is found.",
        "texts_unmeasured": "Some texts in scope could not be measured.",
        "texts_undecided": "The limit lies within the intervals of some texts.",
        "interval_spans_limit": "The limit lies within the interval: more texts would make that narrower.",
    }
)
