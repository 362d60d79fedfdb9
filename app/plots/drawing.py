"""A plot as a specification in Vega-Lite, and from it to SVG without a browser and without a network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any, Final, Literal
from xml.etree import ElementTree as ET

Spec = dict[str, Any]
Channel = Literal["color", "shape", "strokeDash"]

# Fits a phone of 390 px without being made smaller.
WIDTH: Final = 360
HEIGHT: Final = 260
# Okabe and Ito's colours, the two lightest darkened: all have a contrast of 3 on white and on near black.
# Shapes and dashes tell series apart without them.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#3E97CC", "#B17A00", "#808080")
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES: Final = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 6], [1, 4])
# More series than this cannot be told apart.
MAX_SERIES: Final = len(COLOURS)

# Of text and axes on light paper.
DARK_INK: Final = "#16202c"

_PAPER: Final = "#ffffff"
_LEGEND_ROW: Final = 22
_SHORT_NAME: Final = 16  # two of them stand beside each other
_VEGA_LITE: Final = "6.4"
_SVG: Final = "http://www.w3.org/2000/svg"
_INK: Final = "currentColor"  # of the text around the drawing
_CONFIG: Final[Spec] = {
    "background": "transparent",
    # The widest of common fonts, by which room is measured, then what the reader has.
    "font": "DejaVu Sans, Verdana, sans-serif",
    "view": {"stroke": None},
    "title": {
        "anchor": "start",
        "frame": "bounds",
        "color": _INK,
        "subtitleColor": _INK,
        "fontSize": 15,
        "subtitleFontSize": 13,
        "offset": 12,
        "limit": WIDTH,
    },
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "labelFontSize": 13,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "labelAngle": 0,
        "labelOverlap": True,
        "labelSeparation": 6,
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
        "symbolSize": 90,
        "symbolStrokeWidth": 0,
        "symbolOpacity": 1,
        "labelLimit": WIDTH - 80,
    },
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A plot as it is shown.

    Attributes:
        title: what it shows, as it stands above it.
        alt: what it says, for readers who do not see it.
        spec: the plot in Vega-Lite.
    """

    title: str
    alt: str
    spec: Spec

    @property
    def svg(self) -> str:
        """One `<svg>` element of its own, labelled with `alt`, which refers to nothing.

        It is drawn when it is asked for, and meanwhile nothing else of the process runs.
        """
        import vl_convert  # noqa: PLC0415 - it starts a JavaScript engine, which only who draws should pay for

        return _tidied(vl_convert.vegalite_to_svg(self.spec, vl_version=_VEGA_LITE), self.alt)

    def __html__(self) -> str:
        """The drawing as markup that a template takes as it is."""
        return self.svg


def draw(spec: Spec, *, title: str, alt: str, subtitle: str | None = None, height: int = HEIGHT) -> Drawing:
    """A drawing of a single or layered view.

    Args:
        spec: what is drawn, in Vega-Lite, without a size.
        title: above the plot.
        alt: the same in words.
        subtitle: below the title: what the upright axis shows, with its unit.
        height: of the plot with its axes and legend, in pixels.
    """
    sized = {
        **spec,
        "title": {"text": title, **({"subtitle": subtitle} if subtitle else {})},
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": _CONFIG,
    }
    return Drawing(title, alt, sized)


def svg_bytes(drawing: Drawing) -> bytes:
    """A drawing as SVG, in a function that another process can be told to call."""
    return drawing.svg.encode()


def file_bytes(drawing: Drawing) -> bytes:
    """A drawing as a file that brings its own paper: where it will be shown may be light or dark.

    Like `svg_bytes` it can be called in another process.
    """
    root = ET.fromstring(drawing.svg)  # noqa: S314 - as below
    root.set("color", DARK_INK)
    root.insert(0, ET.Element(f"{{{_SVG}}}rect", {"width": "100%", "height": "100%", "fill": _PAPER}))
    return ET.tostring(root, encoding="unicode").encode()


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


def left_out(shown: int, found: int) -> str:
    """What a subtitle adds where not all series are drawn."""
    return "" if shown == found else f"; first {shown} of {found}"


def height_with_legend(series: Sequence[str], height: int = HEIGHT) -> int:
    """The height of a drawing with room below it for a legend of these names."""
    if len(series) < 2:  # noqa: PLR2004 - one needs none
        return height
    return height + _LEGEND_ROW * ceil(len(series) / columns(series))


def columns(names: Sequence[str]) -> int:
    """Of a legend: long names stand below each other."""
    return 2 if max(map(len, names)) <= _SHORT_NAME else 1


def values(rows: Iterable[Spec]) -> Spec:
    """Rows as the data of a view."""
    return {"values": list(rows)}


def channels(
    series: Sequence[str], *names_of: Channel, title: str | None = None, field: str = "series"
) -> Spec:
    """Encodings that tell up to `MAX_SERIES` series apart, with one legend for all of them."""
    names = list(islice(series, MAX_SERIES))
    cycles = {"color": COLOURS, "shape": SHAPES, "strokeDash": DASHES}
    return {
        name: {
            "field": field,
            "type": "nominal",
            "title": title,
            "sort": names,
            "scale": {"domain": names, "range": list(cycles[name][: len(names)])},
            "legend": {"columns": columns(names)} if len(names) > 1 else None,
        }
        for name in names_of
    }
