"""What every rule of a policy is: a contract that knows what it judges and what its observation decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, Literal, TypeVar, get_args

from pydantic import Field

from app.contracts.base import CleanStr, Contract, Name
from app.contracts.results.observations import Decision, Observation
from app.contracts.studies import StudyKind
from app.contracts.texts import TextSetRole

SubjectKind = Literal["audit", "study", "edit"]

GroupPattern = Annotated[
    CleanStr,
    Field(
        min_length=1,
        max_length=200,
        description="Texts whose `group` this pattern matches as a whole, such as `privacy/*`: `*` stands "
        "for any characters, `?` for one. Null for all texts, also those without a group.",
    ),
]
Detects = Annotated[
    int,
    Field(
        ge=1,
        le=2**31,
        description="How many texts, if they alone were above all controls, must have such a q-value for a "
        "pass to count: 1 for a single one. That takes texts / (`detects` q) controls, in each stratum.",
    ),
]
StudyLabel = Annotated[
    Name, Field(description="In a study, the label of the language model that is judged; null for the last.")
]
EditTexts = Annotated[
    Literal["seen", "unseen", "control"],
    Field(
        description="In an edit, which texts are judged, under the edited model: those that it was to forget "
        "(`seen`, also if null), memorized ones that the method never saw, or ones that were never inserted."
    ),
]
ROLES: Final[Mapping[str, TextSetRole]] = MappingProxyType(
    {"seen": TextSetRole.MEMORIZED, "unseen": TextSetRole.UNSEEN, "control": TextSetRole.CONTROL}
)


@dataclass(frozen=True)
class Subject:
    """What is known of a subject before it has ended.

    Attributes:
        kind: whether it is an audit, a study or an edit.
        study_kind: of a study.
        labels: of a study's language models, in the order in which they are compared.
        text_sets: of an edit, by what they are to it.
    """

    kind: SubjectKind
    study_kind: StudyKind | None = None
    labels: tuple[str, ...] = ()
    text_sets: frozenset[TextSetRole] = field(default_factory=frozenset)


class PolicyRule(Contract):
    """A rule. Each kind says in a file of its own what it judges, and is registered there.

    A field that a later release adds is null by default: null fields are no part of a policy's digest.
    """

    subjects: ClassVar[frozenset[SubjectKind]]
    study_kinds: ClassVar[frozenset[StudyKind]] = frozenset(get_args(StudyKind))
    kind: str

    @property
    def limit(self) -> float:
        """What the observed value is compared with."""
        raise NotImplementedError

    def decide(self, observed: Observation) -> Decision:
        """What an observation decides."""
        raise NotImplementedError

    def state(self, observed: Observation) -> str:
        """One plain sentence that says what was observed. It quotes no text."""
        raise NotImplementedError

    def refusal(self, subject: Subject) -> str | None:
        """Why the rule cannot judge such a subject, as a stable code; None if it can."""
        if subject.kind not in self.subjects:
            return "rule_of_another_subject"
        if subject.study_kind is not None and subject.study_kind not in self.study_kinds:
            return "rule_of_another_study"
        return None


class RuleOfOneModel(PolicyRule):
    """A rule on the numbers of one language model: that of an audit, or one of a study's."""

    model: StudyLabel | None = None

    def refusal(self, subject: Subject) -> str | None:
        """Also if a label is given that the study has not, or that an audit or an edit cannot have."""
        if self.model is not None and self.model not in subject.labels:
            return "no_such_label"
        return super().refusal(subject)


RuleT = TypeVar("RuleT", bound=PolicyRule)

_RULES: Final[dict[str, type[PolicyRule]]] = {}
RULES: Final[Mapping[str, type[PolicyRule]]] = MappingProxyType(_RULES)


def register(rule: type[RuleT]) -> type[RuleT]:
    """Add a kind of rule, by the one value that its `kind` can have.

    Raises:
        ValueError: there is such a kind already.
    """
    (kind,) = get_args(rule.model_fields["kind"].annotation)
    if kind in _RULES:
        raise ValueError(f"there is a rule {kind} already")
    _RULES[kind] = rule
    return rule


def percent(share: float) -> str:
    """A share as people read it, to three digits."""
    return f"{100 * share:.3g} %"


def number(value: float | None) -> str:
    """A number as people read it, to three digits."""
    return "unknown" if value is None else f"{value:.3g}"


def texts(count: int) -> str:
    """So many texts."""
    return f"{count:,} text" if count == 1 else f"{count:,} texts"
