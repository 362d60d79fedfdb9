"""Plots: what is drawn stands where the numbers say, without colour, the same byte by byte, and inert."""

import json
import math
import re
import subprocess
import sys
from xml.etree import ElementTree as ET

import altair as alt
import pytest
from lxml import etree

from app import plots
from app.contracts.edit_methods.kfac import KFACMatrix
from app.contracts.results.dose_response import DoseFit
from app.contracts.results.evaluations import Measured, TaskChange
from app.contracts.results.frontier import FrontierPoint
from app.contracts.results.studies import Comparison, StudiedModel
from app.contracts.results.summary import Level
from app.contracts.texts import TextSetRole
from app.plots.bars import Bar
from app.plots.distributions import Distribution, bin_edges
from app.plots.drawing import COLOURS, Drawing

DOSES = [0, 1, 4, 16, 64]
MEANS = [-3.0, -2.5, -2.0, -1.0, -0.25]
HOSTILE = '<script>alert("x")</script> & "\' \\'


def mean(value: float) -> dict[str, float | int]:
    return {"n": 20, "mean": value, "low": value - 0.25, "high": value + 0.25}


def share(count: int) -> dict[str, float | int]:
    return {"n": 20, "count": count, "share": count / 20, "low": 0.0, "high": 1.0}


def levels(group: str | None = None) -> list[Level]:
    return [
        Level.model_validate(
            {
                "group": group,
                "duplicates": dose,
                "nl": mean(value),
                "strict": share(place),
                "loose": share(place),
            }
        )
        for place, (dose, value) in enumerate(zip(DOSES, MEANS, strict=True))
    ]


def measured(before: int, after: int) -> Measured:
    return Measured.model_validate(
        {
            "texts": 20,
            "nl": {"before": mean(-1.0), "after": mean(-3.0)},
            "strict": {"before": share(before), "after": share(after)},
            "loose": {"before": share(before), "after": None},
            "perplexity": {"before": 8.0, "after": None},
            "audits": {"before": "aud_1", "after": "aud_2"},
        }
    )


def studied(label: str, step: int | None, more: float = 0.0) -> StudiedModel:
    found = [{"group": None, "duplicates": None, "nl": mean(-2.0), "strict": None}]
    found += [
        {"group": None, "duplicates": dose, "nl": mean(value + more), "strict": share(place)}
        for place, (dose, value) in enumerate(zip(DOSES, MEANS, strict=True))
    ]
    return StudiedModel.model_validate({"label": label, "step": step, "gain": None, "levels": found})


def matrix(layer: int) -> KFACMatrix:
    return KFACMatrix.model_validate(
        {
            "projection": f"layers.{layer}.up",
            "layer": layer,
            "role": "up",
            "shape": [10, 10],
            "kept_mass": 0.6,
            "kept_pairs": 5,
            "pairs": 100,
            "largest_rank": 3,
            "spectrum": [{"mass": mass, "pairs": pairs} for mass, pairs in ((0.1, 1), (0.6, 5), (0.99, 60))],
        }
    )


def points() -> list[FrontierPoint]:
    return [
        FrontierPoint(
            layers=[1],
            projections=["up"],
            keep_mass=mass,
            perplexity=10.0,
            perplexity_increase=increase,
            strict=strict,
            loose=strict,
            feasible=increase < 0.1,
            chosen=mass == 0.8,
        )
        for mass, increase, strict in ((0.6, 0.3, 0.0), (0.8, 0.05, 0.2), (0.9, 0.01, 0.9))
    ]


def comparison() -> Comparison:
    found = [
        {"group": None, "duplicates": dose, "difference": mean(1.0), "excess": None, "transitions": None}
        for dose in DOSES
    ]
    return Comparison.model_validate({"from_label": HOSTILE, "to_label": "later", "levels": found})


def tasks() -> list[TaskChange]:
    kept = {"sums": 0.5, HOSTILE: 1.0, "facts": 0.75}
    return [
        TaskChange.model_validate(
            {
                "task": task,
                "n": 20,
                "before": share(20),
                "after": share(round(20 * value)),
                "change": {
                    "n": 20,
                    "lost": round(20 * (1 - value)),
                    "gained": 0,
                    "difference": value - 1,
                    "low": -1.0,
                    "high": 1.0,
                },
                "kept": mean(value),
            }
        )
        for task, value in kept.items()
    ]


def every_drawing() -> dict[str, Drawing | None]:
    edges = bin_edges(-4, 0, 4)
    spread = Distribution.of(edges, [-3.5, -1.0, -0.5], [-3.0, -3.5])
    sets = {TextSetRole.CLEAN: measured(0, 0), TextSetRole.MEMORIZED: measured(18, 1)}
    models = [studied("standard", 10), studied(HOSTILE, 20, 0.1)]
    return {
        "dose": plots.dose_response(levels()),
        "fitted": plots.dose_response(
            levels(),
            fit=DoseFit.model_validate({"group": None, "fitted": [{"duplicates": 0, "nl": -3.0}] * 2}),
        ),
        "groups": plots.dose_response([*levels(HOSTILE), *levels("other")], "strict"),
        "change": plots.dose_change(levels(), levels()[::-1]),
        "scores": plots.score_distribution(spread),
        "p": plots.p_values(Distribution.of(bin_edges(0, 1, 5), [0.01, 0.5, 1.0])),
        "sets": plots.before_after(sets),
        "perplexity": plots.before_after(sets, "perplexity"),
        "frontier": plots.frontier(points(), 0.1),
        "spectrum": plots.spectrum([matrix(1), matrix(2)]),
        "tasks": plots.spectrum_bars(tasks()),
        "trajectory": plots.trajectory(models),
        "pair": plots.pair(models, "strict"),
        "difference": plots.pair_difference(comparison()),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawing]:
    found = every_drawing()
    assert None not in found.values()
    return {name: drawing for name, drawing in found.items() if drawing is not None}


def elements(drawing: Drawing, kind: str) -> list[ET.Element]:
    return [each for each in ET.fromstring(drawing.svg).iter() if each.tag.endswith(f"}}{kind}")]


def moved(element: ET.Element) -> tuple[float, float]:
    found = re.fullmatch(r"translate\(([-\d.]+),([-\d.]+)\)", element.get("transform", ""))
    assert found is not None
    return float(found[1]), float(found[2])


def marks(drawing: Drawing, kind: str) -> list[ET.Element]:
    """The shapes of the marks of a kind, without those of the legend."""
    return [
        shape
        for group in elements(drawing, "g")
        if f"mark-{kind} role-mark" in group.get("class", "")
        for shape in group
    ]


def width(bar: ET.Element) -> float:
    """Of a bar, whose path is `M x,y h width v height h -width Z`."""
    found = re.search(r"h([\d.]+)", bar.get("d", ""))
    assert found is not None
    return float(found[1])


def test_every_drawing_is_one_labelled_image_without_anything_active(drawn: dict[str, Drawing]) -> None:
    for name, drawing in drawn.items():
        root = ET.fromstring(drawing.svg)
        assert root.get("role") == "img", name
        assert root.get("aria-label") == drawing.alt, name
        assert drawing.title[:20] in "".join(root.itertext()), name  # long ones end in dots
        tags = {each.tag.rpartition("}")[2] for each in root.iter()}
        assert tags <= {"svg", "g", "path", "line", "text", "rect", "tspan"}, (name, tags)
        attributes = {key for each in root.iter() for key in each.attrib}
        assert not {"style", "href", "id", "clip-path"} & attributes, name
        assert not any(key.startswith("on") or "href" in key for key in attributes), name


def test_names_are_text_and_not_markup(drawn: dict[str, Drawing]) -> None:
    for name in ("groups", "pair"):
        assert "<script" not in drawn[name].svg
        assert HOSTILE in [text.text for text in elements(drawn[name], "text")]


def test_the_same_input_gives_the_same_bytes(drawn: dict[str, Drawing]) -> None:
    again = every_drawing()
    assert {name: drawing.svg for name, drawing in drawn.items()} == {
        name: drawing and drawing.svg for name, drawing in again.items()
    }


def test_points_stand_where_the_numbers_say(drawn: dict[str, Drawing]) -> None:
    """Identity: positions are linear in NL and in log(1 + duplicates), as axis labels have them."""
    places = [moved(each) for each in marks(drawn["dose"], "symbol")]
    assert len(places) == len(DOSES)
    ticks = {}
    for text in elements(drawn["dose"], "text"):
        label = (text.text or "").replace("\u2212", "-")
        if text.get("text-anchor") == "end" and re.fullmatch(r"-?\d+\.\d+", label):
            ticks[float(label)] = moved(text)[1]
    (low, low_y), (high, high_y) = min(ticks.items()), max(ticks.items())
    offset = 4  # of a label's baseline below its tick
    for (x, y), value, dose in zip(places, MEANS, DOSES, strict=True):
        expected = low_y + (value - low) / (high - low) * (high_y - low_y) - offset
        assert y == pytest.approx(expected, abs=1)
        across = (x - places[0][0]) / (places[-1][0] - places[0][0])
        assert across == pytest.approx(math.log1p(dose) / math.log1p(DOSES[-1]), abs=1e-3)


def test_intervals_are_as_long_as_they_are(drawn: dict[str, Drawing]) -> None:
    """Identity: intervals of the same width are the same length, as many pixels as the axis gives them."""
    places = [moved(each)[1] for each in marks(drawn["dose"], "symbol")]
    unit = (places[0] - places[-1]) / (MEANS[-1] - MEANS[0])
    rules = marks(drawn["dose"], "rule")
    assert len(rules) == len(DOSES)
    for rule in rules:
        assert abs(float(rule.get("y2", 0))) == pytest.approx(0.5 * unit, abs=1)


def test_a_spectrum_is_thick_as_far_as_it_is_kept(drawn: dict[str, Drawing]) -> None:
    """Identity: the thick part of each line ends, and the thin one begins, where its mark stands."""
    parts: dict[float, list[list[str]]] = {}
    for line in marks(drawn["spectrum"], "line"):
        parts.setdefault(float(line.get("stroke-width", 1)), []).append(line.get("d", "")[1:].split("L"))
    cuts = [moved(each) for each in marks(drawn["spectrum"], "symbol")]
    assert sorted(parts) == [1, 3]
    for width_of_line, end in ((3, -1), (1, 0)):
        ends = [tuple(map(float, line[end].split(","))) for line in parts[width_of_line]]
        assert [pytest.approx(cut, abs=0.01) for cut in cuts] == ends
    assert all(line[0] != line[-1] for lines in parts.values() for line in lines)


def test_a_file_brings_its_own_paper(drawn: dict[str, Drawing]) -> None:
    """Oracle: another reader of XML. All of the drawing is in it, dark on white."""
    for name, drawing in drawn.items():
        root = etree.fromstring(plots.file_bytes(drawing))
        assert (root.get("role"), root.get("aria-label")) == ("img", drawing.alt), name
        assert root.get("color") == "#16202c"
        paper = root[0]
        assert etree.QName(paper).localname == "rect"
        assert dict(paper.attrib) == {"width": "100%", "height": "100%", "fill": "#ffffff"}
        root.remove(paper)
        assert len(list(root.iter())) == len(list(ET.fromstring(drawing.svg).iter())), name


def test_bars_are_as_long_as_what_is_kept(drawn: dict[str, Drawing]) -> None:
    """Identity: bars are to each other as shares are; intervals and boxes are as long as they are."""
    lengths = [width(path) for path in marks(drawn["tasks"], "rect")]
    assert [length / lengths[1] for length in lengths] == pytest.approx([0.5, 1.0, 0.75], abs=0.01)
    rules = marks(drawn["tasks"], "rule")
    spans = [abs(float(rule.get("x2", 0))) for rule in rules if rule.get("x2") not in {None, "0"}]
    assert [span / lengths[1] for span in spans] == pytest.approx([0.5] * 3, abs=0.01)
    (whole,) = [moved(rule)[0] for rule in rules if rule.get("stroke-dasharray")]
    assert whole == pytest.approx(lengths[1], abs=0.5)  # the second task keeps all
    boxed = plots.kept_bars([Bar("sums", 1.0, reference=(0.25, 0.75)), Bar("facts", 0.5)], "who found them")
    assert boxed is not None
    full, _, box = map(width, marks(boxed, "rect"))
    assert box / full == pytest.approx(0.5, abs=0.02)
    assert any("open boxes: who found them" in (text.text or "") for text in elements(boxed, "text"))
    assert plots.kept_bars([]) is None
    assert plots.spectrum_bars([tasks()[0].model_copy(update={"kept": None})]) is None


def test_settings_that_aim_at_nothing_are_told_apart_by_their_mass() -> None:
    adapted = [point.model_copy(update={"strict": None, "loose": None}) for point in points()]
    drawing = plots.frontier(adapted, 0.1)
    assert drawing is not None
    assert drawing.alt.endswith("the curvature mass kept. Chosen: 5.0% and 80.0%.")
    heights = [moved(each)[1] for each in marks(drawing, "symbol")]
    # Of 0.6, 0.8 and 0.9 the first is lowest, and the steps are as two to one.
    assert (heights[0] - heights[1]) / (heights[1] - heights[2]) == pytest.approx(2, abs=0.01)
    given_up = [point.model_copy(update={"perplexity_increase": None}) for point in adapted]
    assert plots.frontier([*given_up[1:], adapted[0]], 0.1) is None


def test_series_are_told_apart_without_colour(drawn: dict[str, Drawing]) -> None:
    for name in ("groups", "pair", "sets", "frontier"):
        by_colour: dict[str, set[str]] = {}
        for each in marks(drawn[name], "symbol"):
            by_colour.setdefault(each.get("fill", ""), set()).add(each.get("d", ""))
        shapes = [shape for found in by_colour.values() for shape in found]
        assert len(by_colour) > 1, name
        assert len(shapes) == len(set(shapes)), name


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance of `#rrggbb`."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("paper", ["#ffffff", "#141414"])
def test_colours_stand_out_on_light_and_dark(paper: str) -> None:
    for colour in COLOURS:
        lighter, darker = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour


def test_specifications_are_vega_lite(drawn: dict[str, Drawing]) -> None:
    """Oracle: the schema of Vega-Lite, as Altair checks it."""
    for drawing in drawn.values():
        alt.Chart.from_dict(json.loads(json.dumps(drawing.spec)))
    assert len(drawn) == 14


def test_bins_count_every_number_once() -> None:
    edges = bin_edges(-4, 0, 4)
    numbers = [-4.0, -3.5, -3.0, -0.0, 5.0, -9.0]
    assert Distribution.of(edges, numbers).audited == (3, 1, 0, 2)
    assert bin_edges(2, 2, 2) == (1.5, 2.0, 2.5)


def test_nothing_to_draw_is_no_drawing() -> None:
    assert plots.dose_response([]) is None
    assert plots.before_after({}) is None
    assert plots.dose_change(levels()[:1], levels()[:1]) is None
    assert plots.edit_drawings({}, [], [], 0.1, None) == {}
    assert plots.frontier([]) is None
    assert plots.spectrum([]) is None
    assert plots.score_distribution(Distribution((0, 1), (0,))) is None
    assert plots.p_values(Distribution((0, 1), (0,))) is None
    assert plots.trajectory([]) is None


def test_the_api_starts_without_what_draws() -> None:
    """What starts a JavaScript engine and a typesetter is imported when a document is asked for."""
    heavy = "{'vl_convert', 'altair', 'typst'}"
    code = f"import sys, app.main; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plot_says_of_how_many_series_it_is() -> None:
    matrices = [matrix(layer) for layer in range(8)]
    several, all_of_them = plots.spectrum(matrices), plots.spectrum(matrices[:7])
    assert several is not None
    assert all_of_them is not None
    assert "first 7 of 8" in several.svg
    assert "; first" not in all_of_them.svg
    doses = plots.dose_response([level for group in range(9) for level in levels(f"group {group}")])
    assert doses is not None
    assert "first 7 of 9" in doses.svg
