"""Policies: what is asked of a subject, written down before it is looked at."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Field, JsonValue, Tag, TypeAdapter

from app.contracts.base import TAG_MARK, CleanStr, Contract, Name
from app.contracts.policies import RULES, PolicyRule


def _rule_tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return f"{TAG_MARK}{kind}"


if TYPE_CHECKING:
    Rule = PolicyRule
else:
    Rule = Annotated[
        # Known at run time only.
        Union[tuple(Annotated[rule, Tag(TAG_MARK + kind)] for kind, rule in RULES.items())],  # noqa: UP007
        Discriminator(_rule_tag),
    ]

RULE_LIST: TypeAdapter[list[PolicyRule]] = TypeAdapter(list[Rule])

PolicyId = Annotated[str, Field(max_length=100, description="The id of a policy, `pol_…`.")]
Description = Annotated[CleanStr, Field(max_length=4000)]
Rules = Annotated[
    list[Rule],
    Field(min_length=1, max_length=50, description="All of them must pass. Their order is kept."),
]


class PolicyTemplate(Contract):
    """A policy that ships with the product, to be used as it is or as a start."""

    name: Name
    description: Description
    rules: Rules


def policy_digest(name: str, version: int, rules: Sequence[JsonValue]) -> str:
    """SHA-256 of a policy in hexadecimal: of what `canonical_policy` gives."""
    return hashlib.sha256(canonical_policy(name, version, rules)).hexdigest()


def canonical_policy(name: str, version: int, rules: Sequence[JsonValue]) -> bytes:
    """A policy as its digest sees it: `{"name", "rules", "version"}` as canonical JSON in UTF-8.

    Canonical is: keys sorted, no blanks, no escapes but those that JSON needs, floats as Python writes them,
    and no null fields in rules, so that a field which a later release adds changes no digest.

    Args:
        name: of the policy.
        version: of the policy, from 1.
        rules: as JSON objects.
    """
    content = {"name": name, "rules": [_as_stored(rule) for rule in rules], "version": version}
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _as_stored(rule: JsonValue) -> JsonValue:
    """A rule without null fields and with one zero: the store reads -0.0 back as 0.0."""
    assert isinstance(rule, dict)
    return {
        field: 0.0 if isinstance(value, float) and value == 0 else value
        for field, value in rule.items()
        if value is not None
    }
