"""The benchmark for GPUs in small, on whatever device there is."""

import io
import math

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from tests.benchmarks.figures import Figure
from tests.benchmarks.gpu import main, print_figures
from tests.benchmarks.gpu_settings import SETTINGS, tiny
from tests.benchmarks.rates import peak_rate, rate_of_products

NOT_ON_A_PROCESSOR = {
    "MFU of the card's peak",
    "packed against padded",
    "memory while collecting, at its peak",
}


def test_every_row_comes_with_a_finite_number() -> None:
    console = Console(file=io.StringIO(), width=140)
    figures = print_figures([tiny(each) for each in SETTINGS.values()], torch.device("cpu"), 1, console)
    names = [figure.name for figure in figures]
    assert names[: len(names) // 2] == names[len(names) // 2 :]
    without = {figure.name for figure in figures if figure.value is None}
    assert without - {"against vLLM, prompt_logprobs"} == NOT_ON_A_PROCESSOR
    for figure in figures:
        assert figure.value is None or (math.isfinite(figure.value) and figure.value > 0), figure
        assert figure.met is None
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(name in printed for name in names)


def test_without_a_cuda_device_it_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--models", "1B"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("No CUDA device")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(("name", "billions"), [("1B", 1.18), ("7B", 7.30)])
def test_models_have_as_many_parameters_as_their_originals(name: str, billions: float) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(SETTINGS[name].config)
    assert sum(each.numel() for each in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.005)


@pytest.mark.parametrize(
    ("limits", "value", "met", "target"),
    [
        ({"at_least": 0.45}, 0.45, True, "at least 0.45: met"),
        ({"at_least": 0.45}, 0.44, False, "at least 0.45: MISSED"),
        ({"at_most": 25}, 25.0, True, "at most 25: met"),
        ({"at_most": 25}, 26.0, False, "at most 25: MISSED"),
        ({"at_most": 25}, None, False, "at most 25: MISSED"),
        ({"at_most": 25}, math.nan, False, "at most 25: MISSED"),
        ({}, 26.0, None, ""),
    ],
)
def test_a_figure_says_whether_it_keeps_its_limit(
    limits: dict[str, float], value: float | None, met: bool | None, target: str
) -> None:
    figure = Figure("a figure", value, **limits)  # type: ignore[arg-type]
    assert (figure.met, figure.target) == (met, target)


@pytest.mark.parametrize(
    ("card", "teraflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_the_peak_of_a_card_is_known_by_its_name(card: str, teraflops: int | None) -> None:
    assert peak_rate(card) == (None if teraflops is None else teraflops * 1e12)


def test_a_matrix_rate_is_positive_and_finite() -> None:
    assert 0 < rate_of_products((32, 32, 32), 0.01) < math.inf
