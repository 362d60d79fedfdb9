"""A plot from its specification in Vega-Lite to SVG, without a browser and without a network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from xml.etree import ElementTree as ET

Spec = dict[str, Any]

# Fits a phone of 390 px without being made smaller.
WIDTH: Final = 360
HEIGHT: Final = 260
# Okabe and Ito's colours that stand out on white as on black. Dashes and shapes tell series apart without.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#808080")
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES: Final = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 6], [1, 4])
# More series than this cannot be told apart.
MAX_SERIES: Final = len(COLOURS)

_LEGEND_ROW: Final = 22
_VEGA_LITE: Final = "6.4"
_SVG: Final = "http://www.w3.org/2000/svg"
_INK: Final = "currentColor"  # of the text around the drawing
_CONFIG: Final[Spec] = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "title": {"anchor": "start", "color": _INK, "fontSize": 15, "offset": 10},
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "labelAngle": 0,
        "labelOverlap": True,
        "domainColor": _INK,
        "tickColor": _INK,
        "gridColor": _INK,
        "gridOpacity": 0.15,
        "titleLimit": WIDTH,
    },
    "legend": {
        "labelColor": _INK,
        "titleColor": _INK,
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "orient": "bottom",
        "columns": 2,
        "symbolSize": 90,
        "symbolStrokeWidth": 2,
        "labelLimit": 160,
    },
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A plot as it is shown.

    Attributes:
        title: what it shows, as it stands above it.
        alt: what it says, for readers who do not see it.
        svg: one `<svg>` element of its own, labelled with `alt`; it refers to nothing.
    """

    title: str
    alt: str
    svg: str

    def __html__(self) -> str:
        """The drawing as markup that a template takes as it is."""
        return self.svg


def draw(spec: Spec, *, title: str, alt: str, height: int = HEIGHT) -> Drawing:
    """A drawing of a single or layered view.

    Args:
        spec: what is drawn, in Vega-Lite, without a size.
        title: above the plot.
        alt: the same in words.
        height: of the plot with its axes and legend, in pixels.
    """
    import vl_convert  # noqa: PLC0415 - it starts a JavaScript engine, which only who draws should pay for

    sized = {
        **spec,
        "title": title,
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": _CONFIG,
    }
    return Drawing(title, alt, _tidied(vl_convert.vegalite_to_svg(sized, vl_version=_VEGA_LITE), alt))


def _tidied(svg: str, alt: str) -> str:
    """The same picture as one labelled image, without the roles of its parts and without what is not seen."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(svg)  # noqa: S314 - drawn a moment ago, by a library of ours
    for element in root.iter():
        for name in [name for name in element.attrib if name == "role" or name.startswith("aria-")]:
            del element.attrib[name]
        for child in list(element):
            if child.get("class") in {"background", "foreground"} and child.get("fill") is None:
                element.remove(child)
    root.set("role", "img")
    root.set("aria-label", alt)
    return ET.tostring(root, encoding="unicode")


def legend_height(series: int) -> int:
    """The height of a drawing whose legend tells so many series apart, in two columns below it."""
    return HEIGHT + _LEGEND_ROW * ((series + 1) // 2 if series > 1 else 0)


def values(rows: Iterable[Spec]) -> Spec:
    """Rows as the data of a view."""
    return {"values": list(rows)}


def channels(series: Sequence[str], title: str | None, *, field: str = "series") -> Spec:
    """Encodings that tell up to `MAX_SERIES` series apart by colour and shape, with one legend for both."""
    names = list(islice(series, MAX_SERIES))
    return {
        name: {
            "field": field,
            "type": "nominal",
            "title": title,
            "sort": names,
            "scale": {"domain": names, "range": list(cycle[: len(names)])},
            **({} if len(names) > 1 else {"legend": None}),
        }
        for name, cycle in (("color", COLOURS), ("shape", SHAPES))
    }


def dashes(series: Sequence[str], *, field: str = "series") -> Spec:
    """The encoding that tells the lines of series apart by their dash."""
    names = list(islice(series, MAX_SERIES))
    return {
        "strokeDash": {
            "field": field,
            "type": "nominal",
            "legend": None,
            "scale": {"domain": names, "range": list(DASHES[: len(names)])},
        }
    }
