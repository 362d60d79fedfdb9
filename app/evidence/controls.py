"""Which controls of frameworks the rules of policies bear on, as the operator of the service maps them."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from app.contracts.base import Contract

_DEFAULT: Final = "control_mappings.json"
# Names a rule that is listed nowhere else, and what all rules bear on besides.
_ANY_RULE: Final = "*"

# What OSCAL takes for a token, so that ids can be joined to one.
Token = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9._-]*$", max_length=100)]


class Control(Contract):
    """A control, measure or requirement of a framework."""

    id: Token
    title: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]


class Framework(Contract):
    """A framework with those of its controls that rules are mapped to."""

    id: Token
    title: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
    controls: Annotated[list[Control], Field(min_length=1)]


class ControlMappings(Contract):
    """Frameworks, and by the kind of a rule the controls that it bears on, as `framework_control`.

    What `*` names, every rule bears on.
    """

    frameworks: Annotated[list[Framework], Field(min_length=1)]
    rules: dict[str, list[str]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = self.titles()
        if any(control not in known for controls in self.rules.values() for control in controls):
            raise PydanticCustomError(
                "unknown_control", "A rule is mapped to a control that no framework has"
            )
        return self

    def titles(self) -> dict[str, str]:
        """All controls by `framework_control`, each with its framework's title and its own."""
        return {
            f"{framework.id}_{control.id}": f"{framework.title}: {control.title}"
            for framework in self.frameworks
            for control in framework.controls
        }

    def of_rule(self, kind: str) -> list[str]:
        """The controls that a kind of rule bears on, those of its own first."""
        return list(dict.fromkeys([*self.rules.get(kind, ()), *self.rules.get(_ANY_RULE, ())]))


@cache
def read_control_mappings(path: Path | None) -> ControlMappings:
    """The mappings of a file, or those that ship with the service.

    Raises:
        ValueError: the file cannot be read or is no such mapping.
    """
    try:
        text = files(__package__).joinpath(_DEFAULT).read_bytes() if path is None else path.read_bytes()
        return ControlMappings.model_validate_json(text)
    except (OSError, ValidationError) as error:
        raise ValueError(f"MEMAUDIT_CONTROL_MAPPINGS: {path} is no mapping of controls") from error
