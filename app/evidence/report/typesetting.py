"""Typst: formulas as MathML, and a report as PDF. Its fonts are its own; it reads no file and no network."""

import re
from dataclasses import is_dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from markupsafe import Markup

from app.evidence.report.document import Report
from app.plots import Drawing

_MATH: Final = re.compile(r"<math.*</math>", re.DOTALL)


@cache
def mathml(math: str) -> Markup:
    """A formula of Typst's math mode as a `<math>` element. Only formulas of this room, never a client's."""
    import typst  # noqa: PLC0415 - a large library, which only who renders should load

    page = typst.compile(f"$ {math} $".encode(), format="html", ignore_system_fonts=True).decode()
    found = _MATH.search(page)
    assert found is not None
    return Markup(found.group())  # noqa: S704 - made from our own formula


def pdf(report: Report) -> bytes:
    """A report as PDF, tagged for screen readers; the same report gives the same bytes.

    What the report says goes to the template as data, in which Typst's own signs mean nothing.
    """
    import typst  # noqa: PLC0415 - as above

    template = files(__package__).joinpath("templates/report.typ").read_bytes()
    data = orjson.dumps(_plain(report)).decode()
    return typst.compile(template, format="pdf", sys_inputs={"report": data}, ignore_system_fonts=True)


def _plain(value: Any) -> Any:
    """Dataclasses as objects that name their own kind, and plots drawn."""
    if isinstance(value, Drawing):
        return {"svg": value.svg, "alt": value.alt}
    if is_dataclass(value) and not isinstance(value, type):
        fields = {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"kind": type(value).__name__.lower(), **fields}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value
