"""The rules of policies: a file for each says what it judges and decides. A new one is imported here."""

from app.contracts.policies import (  # noqa: I001 - the order of the API
    no_memorized_text,
    rate,
    probabilistic_extraction,
    no_newly_memorized,
    membership_auc,
    perplexity,
    equivalent_duplicates,
    mean_difference,
)
from app.contracts.policies.rule import RULES, PolicyRule, Subject, SubjectKind

__all__ = [
    "RULES",
    "PolicyRule",
    "Subject",
    "SubjectKind",
    "equivalent_duplicates",
    "mean_difference",
    "membership_auc",
    "no_memorized_text",
    "no_newly_memorized",
    "perplexity",
    "probabilistic_extraction",
    "rate",
]
