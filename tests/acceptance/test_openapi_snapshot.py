"""The HTTP contract changes only on purpose: the checked-in OpenAPI document is the application's own."""

import json
import re
from typing import Any

from openapi_snapshot import SNAPSHOT, render


def test_the_snapshot_is_the_contract() -> None:
    assert SNAPSHOT.read_text() == render(), "The HTTP contract changed; if on purpose, run `make openapi`."


def test_every_reference_resolves() -> None:
    document = json.loads(render())
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)):
        found: Any = document
        root, *path = reference.split("/")
        assert root == "#"
        for step in path:
            assert step in found, reference
            found = found[step]
