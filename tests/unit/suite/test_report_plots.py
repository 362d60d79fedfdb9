"""The plots of the suite's report: a file a panel, which needs nothing else."""

import xml.etree.ElementTree as ET
from pathlib import Path

from workers.suite.report.finding import Finding, Panel, Row
from workers.suite.report.plots import draw, plot_files


def test_each_panel_is_a_file_of_its_own(tmp_path: Path) -> None:
    rows = tuple(
        Row("perturbed", group, duplicates, "NL", 9, -3.0 + duplicates, -3.5 + duplicates, None)
        for group in ("copyright", "privacy")
        for duplicates in (0, 1, 4)
    )
    panels = (
        Panel("Likelihood", "NL, nats a token", rows, lambda row: row.group),
        Panel("Difference", "nats a token", rows, lambda row: row.model, baseline=0.0),
    )
    finding = Finding("dose", "Dose", "More?", (), rows, (), panels)
    draw(finding, tmp_path)
    assert (
        [path.name for path in sorted(tmp_path.iterdir())]
        == plot_files(finding)
        == ["dose-1.svg", "dose-2.svg"]
    )
    for path, panel in zip(sorted(tmp_path.iterdir()), panels, strict=True):
        root = ET.parse(path).getroot()
        words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert {panel.title, panel.y_title, "duplicates"} <= words
        assert root[0].get("fill") == "#ffffff"
