"""`no_newly_memorized`: a release has memorized no text that an earlier version had not."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.contracts.base import Name
from app.contracts.policies.rule import Detects, PolicyRule, Subject, SubjectKind, number, register, texts
from app.contracts.results.observations import Decision, Observation, none_counts
from app.contracts.studies import StudyKind


@register
class NoNewlyMemorized(PolicyRule):
    """The last version of a release has memorized no text that an earlier one had not.

    By `newly_memorized` of a study of kind `release` that has a `control_text_set`, at its `options.fdr`. A
    text that could not be judged makes it `inconclusive`, unless another fails it; so do controls that are
    too few for so few texts as it `detects`.
    """

    subjects: ClassVar[frozenset[SubjectKind]] = frozenset({"study"})
    study_kinds: ClassVar[frozenset[StudyKind]] = frozenset({"release"})

    kind: Literal["no_newly_memorized"]
    since: (
        Annotated[
            Name,
            Field(
                description="The label of the earlier version: the first or the last but one; null for that."
            ),
        ]
        | None
    ) = None
    detects: Detects = 1

    @property
    def limit(self) -> float:
        """How many texts."""
        return 0.0

    def refusal(self, subject: Subject) -> str | None:
        """Also if the study does not compare the last version with that one."""
        code = super().refusal(subject)
        if code is None and self.since not in (None, subject.labels[0], subject.labels[-2]):
            return "no_such_comparison"
        return code

    def decide(self, observed: Observation) -> Decision:
        """One newly memorized text fails it."""
        return none_counts(observed)

    def state(self, observed: Observation) -> str:
        """How many texts are newly memorized."""
        return (
            f"{observed.count or 0:,} of {texts(observed.n)} that could be judged are newly memorized; "
            f"{texts(observed.unmeasured)} could not be judged. With {self.detects:,} above all controls the "
            f"least q-value would be {number(observed.least_q)}."
        )
