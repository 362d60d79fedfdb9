"""The benchmark for GPUs in small, on one."""

import io

import pytest
import torch
from rich.console import Console

from tests.benchmarks.gpu import print_figures
from tests.benchmarks.gpu_settings import SETTINGS, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", SETTINGS)
def test_tiny_models_pack_and_have_every_figure_but_those_of_what_is_not_there(name):
    console = Console(file=io.StringIO(), width=140)
    figures = print_figures([tiny(SETTINGS[name])], torch.device("cuda", 0), 1, console)
    assert figures[0].name == "scoring, packed"
    without = {figure.name for figure in figures if figure.value is None}
    assert without <= {"against vLLM, prompt_logprobs", "MFU of the card's peak"}
