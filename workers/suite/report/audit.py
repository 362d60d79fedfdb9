"""Every text of a suite scored under each of its models."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.contracts.texts import TextRecord
from workers.science.measurements.measurement import MeasuredText, Subject
from workers.science.measurements.multiple_choice import MEASUREMENT as MULTIPLE_CHOICE
from workers.science.measurements.options import MeasurementOptions
from workers.science.models.loading import load_language_model
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput, TextScore

# In training every document of a suite comes after EOS, which its tokenizer does not add by itself.
OPTIONS = ScoringOptions(
    metrics=frozenset({"extraction", "membership"}),
    prefix_token="eos",  # noqa: S106 - a name of a token
    token_evidence=False,
    decode=False,
)

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Audited:
    """One text set under several models; each array is in the order of the texts [texts]."""

    texts: tuple[TextRecord, ...]
    scores: Mapping[str, Sequence[TextScore]]  # by model

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The groups, in the order in which they first come."""
        return tuple(dict.fromkeys(str(text.group) for text in self.texts))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The numbers of duplicates, ascending."""
        return tuple(sorted({text.duplicates or 0 for text in self.texts}))

    def nl(self, model: str) -> Floats:
        """Mean log-likelihood of each text in nats a token, at most 0."""
        return np.array([score.nl for score in self.scores[model]], dtype=np.float64)

    def strict(self, model: str) -> list[bool | None]:
        """Whether greedy decoding recites the suffix of each text; None where it is too short to split."""
        return [
            None if found is None else bool(found)
            for found in (score.metrics["extraction"]["strict"] for score in self.scores[model])
        ]

    def membership(self, model: str, name: str) -> Floats:
        """A membership score of each text, higher = more likely a member."""
        return np.array([score.metrics["membership"][name] for score in self.scores[model]])

    def where(self, groups: Iterable[str], level: int) -> Mask:
        """The texts of some groups at a number of duplicates: bool [texts]."""
        wanted = set(groups)
        return np.array([text.group in wanted and text.duplicates == level for text in self.texts])


def read_texts(path: Path) -> tuple[TextRecord, ...]:
    """The records of one of the suite's text sets."""
    with path.open("rb") as file:
        return tuple(TextRecord.model_validate_json(line) for line in file)


def score_under(
    model: Path, texts: Sequence[str], device: str, on_progress: Callable[[int], None]
) -> list[TextScore]:
    """Score texts under one model in float32."""
    return score_texts(
        load_language_model(model, device=device),
        [TextInput(text) for text in texts],
        OPTIONS,
        on_progress=on_progress,
    )


def answers_under(model: Path, items: Sequence[TextRecord], device: str) -> list[bool | None]:
    """Whether a model answers each item rightly (`multiple_choice`); None where it cannot be asked."""
    language_model = load_language_model(model, device=device)
    subject = Subject(
        language_model=language_model,
        prefix_token=resolve_prefix_token(OPTIONS.prefix_token, language_model),
        scoring=OPTIONS,
        options=MeasurementOptions(),
    )
    asked = [
        MeasuredText(
            text=TextInput(item.full_text),
            choices=tuple(item.choices or ()),
            answer=item.answer,
            metadata=item.metadata,
        )
        for item in items
    ]
    found = MULTIPLE_CHOICE.measure(subject, asked, lambda _: None)
    return [None if each is None or (correct := each["correct"]) is None else bool(correct) for each in found]
