"""Policies as they are sent and answered."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from app.contracts.base import Contract, Described, Metadata, Name
from app.contracts.policies.policy import RULE_LIST, Description, Rule, Rules
from app.store.core.identifiers import Prefix, format_id
from app.store.policies import Policy


class PolicyCreate(Contract):
    """A policy: `rules`, all of which must pass, or those of a `template` that ships with the product.

    A name that a policy of the tenant has already gives the next version of it. `name` and `description` are
    by default the template's.
    """

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["name", "rules"]}, {"required": ["template"]}]}
    )

    name: Name | None = None
    description: Description | None = None
    rules: Rules | None = None
    template: Annotated[str, Field(max_length=100, description="The name of a template.")] | None = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.rules is None) == (self.template is None):
            raise PydanticCustomError("rules_or_template", "Give either rules or template")
        if self.rules is not None and self.name is None:
            raise PydanticCustomError("name_missing", "Give the policy a name")
        return self


class PolicyOut(Described):
    """Rules over an audit, a study or an edit. A policy never changes: a new one has the next version."""

    object: Literal["policy"] = "policy"
    id: str
    name: str
    version: int
    """From 1 on, for each name."""
    sha256: str
    """SHA-256 of `{"name", "rules", "version"}` as canonical JSON in UTF-8: keys sorted, no blanks, without
    the null fields of rules."""
    description: str | None
    template: str | None
    """The template that its rules are those of; null if they were sent."""
    rules: list[Rule]
    """All of them must pass."""
    metadata: dict[str, JsonValue]
    created_at: datetime

    @classmethod
    def of(cls, row: Policy) -> Self:
        """The resource for a row."""
        return cls(
            id=format_id(Prefix.POLICY, row.id),
            name=row.name,
            version=row.version,
            sha256=row.sha256,
            description=row.description,
            template=row.template,
            rules=RULE_LIST.validate_python(row.rules),
            metadata=row.metadata_,
            created_at=row.created_at,
        )


class PolicyTemplateOut(Described):
    """A policy that ships with the product, by whose name one can be made."""

    object: Literal["policy_template"] = "policy_template"
    template: str
    """As `POST /v1/policies` takes it."""
    name: str
    description: str
    rules: list[Rule]


class PolicyTemplateList(Described):
    """All templates, by their names."""

    object: Literal["list"] = "list"
    data: list[PolicyTemplateOut]
    has_more: Literal[False] = False
    next_cursor: None = None
