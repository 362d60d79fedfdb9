"""How each kind of rule is observed. `app.contracts.policies` says what there is."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from app.contracts.policies import PolicyRule
from workers.gates import results, texts
from workers.gates.observed import Observed
from workers.gates.subject import Judged

OBSERVERS: Final[Mapping[str, Callable[[Judged, Any], Observed]]] = MappingProxyType(
    {
        "no_memorized_text": texts.no_memorized_text,
        "rate": texts.rate,
        "probabilistic_extraction": texts.probabilistic_extraction,
        "no_newly_memorized": results.no_newly_memorized,
        "membership_auc": results.membership_auc,
        "perplexity": results.perplexity,
        "equivalent_duplicates": texts.equivalent_duplicates,
        "mean_difference": results.mean_difference,
    }
)


def observe(judged: Judged, rule: PolicyRule) -> Observed:
    """What a rule asks for, of a subject that has succeeded."""
    return OBSERVERS[rule.kind](judged, rule)
