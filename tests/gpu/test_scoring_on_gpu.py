"""The scorer on a GPU against the scorer on a CPU in float32."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_models import ARCHITECTURES, english_sentences, save_reciting_model, save_tiny_model
from workers.science.models.loading import load_language_model
from workers.science.scoring.scorer import ScoringOptions, TextInput, TextScore, score_texts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TEXTS = [TextInput(text) for text in english_sentences()[:60]]


def score(directory: Path, device: str, dtype: str, options: ScoringOptions) -> list[TextScore]:
    return score_texts(load_language_model(directory, device=device, dtype=dtype), TEXTS, options)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float32_agrees_with_the_cpu(tmp_path, architecture):
    save_tiny_model(tmp_path, architecture)
    for ours, theirs in zip(
        score(tmp_path, "cuda", "float32", ScoringOptions()),
        score(tmp_path, "cpu", "float32", ScoringOptions()),
        strict=True,
    ):
        assert ours.nl == pytest.approx(theirs.nl, abs=1e-4)
        np.testing.assert_allclose(ours.evidence.log_likelihood, theirs.evidence.log_likelihood, atol=1e-3)
        assert ours.metrics["extraction"] == theirs.metrics["extraction"]
        assert ours.metrics["verbatim"] == theirs.metrics["verbatim"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_agrees_with_the_cpu_within_its_rounding(tmp_path, architecture):
    save_tiny_model(tmp_path, architecture)
    for ours, theirs in zip(
        score(tmp_path, "cuda", "bfloat16", ScoringOptions(decode=False)),
        score(tmp_path, "cpu", "float32", ScoringOptions(decode=False)),
        strict=True,
    ):
        # A CPU in bfloat16 differs by at most 0.0015 on these texts.
        assert ours.nl == pytest.approx(theirs.nl, rel=0.005)


def test_recitation_agrees_with_the_cpu_in_bfloat16(tmp_path):
    passages = [text for text in english_sentences() if len(text) > 300][:4]
    save_reciting_model(tmp_path, passages)
    language_model = load_language_model(tmp_path, device="cuda", dtype="bfloat16")
    for result in score_texts(language_model, [TextInput(text) for text in passages], ScoringOptions()):
        assert result.metrics["extraction"]["strict"]


@pytest.mark.parametrize("batch_tokens", [200, 4000])
def test_batches_do_not_change_the_numbers_in_float32(tmp_path, batch_tokens):
    save_tiny_model(tmp_path)
    alone = score(tmp_path, "cuda", "float32", ScoringOptions(batch_tokens=1))
    together = score(tmp_path, "cuda", "float32", ScoringOptions(batch_tokens=batch_tokens))
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.nl == pytest.approx(theirs.nl, abs=1e-5)
