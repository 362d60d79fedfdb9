"""Schemas as Python: pydantic models of what is received, typed dictionaries of what is sent."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.client_build.schemas import Schema, is_named, referred

_WIDTH: Final = 106
_SIMPLE: Final = {"integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_NOTHING_KNOWN: Final = "Any"
# What ends, whichever way, has these.
_WORK: Final = frozenset({"id", "status", "error"})


@dataclass(frozen=True)
class Style:
    """How schemas of one direction are written.

    Attributes:
        names: the classes by their schemas' names.
        open: whether values that this release does not know are taken: those of a newer service.
        array: the type of a list.
    """

    names: Mapping[str, str]
    open: bool
    array: str

    def annotation(self, schema: Schema, *, tag: bool = False) -> str:
        """The type of a value; that of a `tag` says which member of a union its object is."""
        if (name := referred(schema) or (schema["title"] if is_named(schema) else None)) is not None:
            return self.names.get(name, _NOTHING_KNOWN)
        if "const" in schema:
            return self._one_of([schema["const"]], closed=tag)
        if "enum" in schema:
            return self._one_of(schema["enum"], closed=False)
        if members := schema.get("anyOf") or schema.get("oneOf"):
            return self._union(members)
        return self._plain(schema)

    def _plain(self, schema: Schema) -> str:
        if schema.get("type") == "array":
            return f"{self.array}[{self.annotation(schema.get('items', {}))}]"
        if schema.get("type") == "object":
            values = schema.get("additionalProperties")
            return f"dict[str, {self.annotation(values) if isinstance(values, Mapping) else _NOTHING_KNOWN}]"
        if schema.get("type") == "string":
            # What is sent is JSON as it is written.
            return "datetime" if self.open and schema.get("format") == "date-time" else "str"
        return _SIMPLE.get(schema.get("type", ""), _NOTHING_KNOWN)

    def _one_of(self, values: list[Any], *, closed: bool) -> str:
        if not all(isinstance(value, str) for value in values):
            return " | ".join(sorted({type(value).__name__ for value in values}))
        known = f"Literal[{', '.join(map(_quoted, values))}]"
        return known if closed or not self.open else f"{known} | str"

    def _union(self, members: list[Schema]) -> str:
        """A union. One of several kinds of objects, which a tag tells, takes a newer kind as a dictionary."""
        types = list(dict.fromkeys(self.annotation(member) for member in members))
        objects = [member for member in members if referred(member) or is_named(member)]
        if not self.open or len(objects) == 1 or not objects:
            return " | ".join(types)
        return f'Annotated[{" | ".join([*types, "dict[str, Any]"])}, Field(union_mode="left_to_right")]'


def models(schemas: Mapping[str, Schema], style: Style) -> Iterator[str]:
    """A class for each object, an alias for each other schema."""
    for name, schema in schemas.items():
        if "properties" not in schema:
            yield f"{style.names[name]}: TypeAlias = {style.annotation(schema)}\n{_documented(schema, '')}"
            continue
        base = "Work" if schema["properties"].keys() >= _WORK else "Answer"
        lines = [f"class {style.names[name]}({base}):\n{_documented(schema, '    ') or '    pass'}"]
        lines += (_model_field(*item, schema, style) for item in schema["properties"].items())
        yield "\n".join(lines)


def _model_field(name: str, value: Schema, owner: Schema, style: Style) -> str:
    annotation = style.annotation(value, tag=_is_tag(name, value))
    default = ""
    if name not in owner.get("required", []) or annotation.endswith("| None"):
        default = f" = {value['default']!r}" if _is_plain(value.get("default")) else " = None"
        if default == " = None" and not annotation.endswith(("| None", "None")):
            annotation += " | None"
    return f"    {name}: {annotation}{default}\n{_documented(value, '    ')}"


def _is_tag(name: str, value: Schema) -> bool:
    return "const" in value and name in {"object", "kind", "type", "method"}


def _is_plain(default: Any) -> bool:
    return isinstance(default, str | int | float) or default in ([], {})


def dictionaries(schemas: Mapping[str, Schema], style: Style) -> Iterator[str]:
    """A typed dictionary for each object, an alias for each other schema."""
    for name, schema in schemas.items():
        if "properties" not in schema:
            yield f"{style.names[name]}: TypeAlias = {style.annotation(schema)}\n{_documented(schema, '')}"
            continue
        lines = [f"class {style.names[name]}(TypedDict):\n{_documented(schema, '    ')}"]
        for key, value in schema["properties"].items():
            annotation = style.annotation(value)
            if key not in schema.get("required", []):
                annotation = f"NotRequired[{annotation}]"
            lines.append(f"    {key}: {annotation}\n{_documented(value, '    ')}")
        yield "\n".join(lines)


def _documented(schema: Schema, indent: str) -> str:
    """A description as a docstring."""
    text = schema.get("description", "").replace("\\", "\\\\").strip()
    if not text:
        return ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    wrapped = f"\n\n{indent}".join(
        textwrap.fill(paragraph, _WIDTH, subsequent_indent=indent, break_long_words=False)
        for paragraph in paragraphs
    )
    end = f"\n{indent}" if "\n" in wrapped else ""
    return f'{indent}"""{wrapped}{end}"""\n'


def _quoted(value: str) -> str:
    return f'"{value}"'
