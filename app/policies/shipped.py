"""Templates of policies, which ship with the product: a JSON file each, under `templates/`."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from app.contracts.policies.policy import PolicyTemplate
from app.errors import NotFound


@cache
def templates() -> Mapping[str, PolicyTemplate]:
    """All templates by the names of their files, in alphabetical order."""
    found = sorted(files("app.policies").joinpath("templates").iterdir(), key=lambda file: file.name)
    return MappingProxyType(
        {
            file.name.removesuffix(".json"): PolicyTemplate.model_validate_json(file.read_bytes())
            for file in found
            if file.name.endswith(".json")
        }
    )


def get_template(name: str) -> PolicyTemplate:
    """A template by its name.

    Raises:
        NotFound: none ships by this name.
    """
    template = templates().get(name)
    if template is None:
        raise NotFound("There is no such policy template; GET /v1/policy-templates lists them.")
    return template
