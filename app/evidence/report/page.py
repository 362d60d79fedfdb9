"""A report as one HTML page, without a script and without another file."""

import hashlib
from base64 import b64encode
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from app.evidence import report as room
from app.evidence.report.document import Report
from app.evidence.report.typesetting import mathml

_STYLE: Final = files(room).joinpath("templates/report.css").read_text(encoding="utf-8")
_STYLE_DIGEST: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader(room.__name__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["mathml"] = mathml
    environment.filters["kind"] = lambda block: type(block).__name__.lower()
    return environment.get_template("report.html.jinja")


def page(report: Report) -> bytes:
    """The page. Whatever is not markup of the template is escaped."""
    content = _template().render(
        report=report,
        style=Markup(_STYLE),  # noqa: S704 - a file of ours
        style_digest=_STYLE_DIGEST,
    )
    return content.encode()
