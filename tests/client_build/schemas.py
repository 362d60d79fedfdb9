"""The schemas of an OpenAPI document by the name that the client gives them, and what reaches which."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Schema = Mapping[str, Any]

_REFERENCE: Final = "#/components/schemas/"
_SUCCESS: Final = "2"
# The routes of the contract itself; others are for probes and for clients of the hub.
_ROOT: Final = "/v1/"
_METHODS: Final = frozenset({"get", "post", "put", "patch", "delete"})
# What a list is narrowed by, but for its pages, which the client turns itself.
_PAGING: Final = frozenset({"limit", "cursor", "wait"})


def client_names(schemas: Iterable[str]) -> dict[str, str]:
    """A short name for every schema: `AuditOut` is an `Audit`; two of one name say their modules, too."""
    short = {name: _class_name(name) for name in schemas}
    names = {}
    for name, shortened in short.items():
        plain = shortened.removesuffix("Out")
        names[name] = shortened if plain in short.values() and plain != shortened else plain
    return names


def _class_name(schema: str) -> str:
    # What is sent may differ from what is answered; each has its own module here.
    *modules, name = schema.removesuffix("-Input").removesuffix("-Output").split("__")
    return modules[-1].title() + name if modules else name


def referred(schema: Schema) -> str | None:
    """The name of the schema that a reference leads to; None for what is no reference."""
    reference: str | None = schema.get("$ref")
    return None if reference is None else reference.removeprefix(_REFERENCE)


@dataclass
class Contract:
    """An OpenAPI document, as far as a client needs it.

    Attributes:
        schemas: all named schemas; those that stand inside others are named by their title.
        bodies: the names of those that are sent.
        answers: the names of those that are received.
        filters: for each list, the schema of what narrows it, by a name made of its route's.
    """

    schemas: dict[str, Schema]
    bodies: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    filters: dict[str, Schema] = field(default_factory=dict)


def read_contract(document: Schema) -> Contract:
    """What an OpenAPI document says."""
    contract = Contract(dict(document["components"]["schemas"]))
    operations = [
        operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith(_ROOT) and method in _METHODS
    ]
    sent = [schema for operation in operations for schema in _contents(operation.get("requestBody", {}))]
    received = [
        schema
        for operation in operations
        for status, answer in operation["responses"].items()
        if status.startswith(_SUCCESS)
        for schema in _contents(answer)
    ]
    for schema in [*sent, *received, *contract.schemas.values()]:
        contract.schemas |= {
            each["title"]: each for each in _titled(schema) if each["title"] not in contract.schemas
        }
    contract.filters = {_filter_name(each): made for each in operations if (made := _filters(each))}
    contract.bodies = _reached(contract.schemas, [*sent, *contract.filters.values()])
    contract.answers = _reached(contract.schemas, [*received, {"$ref": f"{_REFERENCE}Problem"}])
    return contract


def _contents(message: Schema) -> Iterator[Schema]:
    yield from (content["schema"] for content in message.get("content", {}).values() if "schema" in content)


def _parts(schema: Schema) -> Iterator[Schema]:
    """The schemas that a schema consists of."""
    yield from schema.get("properties", {}).values()
    for combined in ("anyOf", "oneOf", "allOf", "prefixItems"):
        yield from schema.get(combined, [])
    for single in ("items", "additionalProperties"):
        if isinstance(schema.get(single), Mapping):
            yield schema[single]


def is_named(schema: Schema) -> bool:
    """Whether a schema inside another is an object with a name of its own."""
    return "properties" in schema and "title" in schema


def _titled(schema: Schema) -> Iterator[Schema]:
    if is_named(schema) and schema["title"].isidentifier():
        yield schema
    for part in _parts(schema):
        yield from _titled(part)


def _reached(schemas: Mapping[str, Schema], roots: Iterable[Schema]) -> list[str]:
    """The names of all that some schemas consist of."""
    found: set[str] = set()
    open_schemas = list(roots)
    while open_schemas:
        schema = open_schemas.pop()
        name = referred(schema) or (schema["title"] if is_named(schema) else None)
        if name is not None and name in schemas:
            if name in found:
                continue
            found.add(name)
            schema = schemas[name]
        open_schemas += _parts(schema)
    return sorted(found)


def _filters(operation: Schema) -> Schema | None:
    parameters = [
        each
        for each in operation.get("parameters", [])
        if each["in"] == "query" and each["name"] not in _PAGING
    ]
    if not parameters or "Page_" not in str(operation["responses"]):
        return None
    return {
        "type": "object",
        "description": operation["description"].partition("\n")[0],
        "properties": {
            each["name"]: {**each["schema"], "description": each.get("description", "")}
            for each in parameters
        },
    }


def _filter_name(operation: Schema) -> str:
    name = re.sub(r"_(v\d+|api)_.*", "", operation["operationId"])
    return "".join(part.title() for part in name.split("_"))
