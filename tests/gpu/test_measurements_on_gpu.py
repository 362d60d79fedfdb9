"""What asks the model more than one pass, on a GPU against the same on a CPU in float32."""

import pytest
import torch

from tests.tiny_models import english_sentences, save_reciting_model
from workers.science.measurements.measurement import MeasuredText, Subject
from workers.science.measurements.options import MeasurementOptions, WindowOptions
from workers.science.measurements.registry import MEASUREMENTS
from workers.science.models.loading import load_language_model
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PASSAGES = [text for text in english_sentences() if len(text) > 300][:4]
OPTIONS = ScoringOptions(prefix_tokens=8, suffix_tokens=8, min_k=0.3)
MEASUREMENT_OPTIONS = MeasurementOptions(windows=WindowOptions(prefix_tokens=8, suffix_tokens=8, stride=4))
TEXTS = [
    MeasuredText(
        text=TextInput(passage),
        choices=(passage[-20:], other[-20:]),
        answer=0,
        metadata={
            "field_recall": {"prompts": {"full": passage[:100]}, "answer": passage[100:130]},
            "paraphrase": {"paraphrases": [other]},
        },
    )
    for passage, other in zip(PASSAGES, reversed(PASSAGES), strict=True)
]


def numbers(found, path=""):
    """Every number of a result by its place in it."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from numbers(value, f"{path}.{name}")
    elif isinstance(found, list):
        for place, value in enumerate(found):
            yield from numbers(value, f"{path}[{place}]")
    else:
        yield path, found


@pytest.fixture(scope="module")
def reciting(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reciting")
    save_reciting_model(directory, PASSAGES)
    return {
        device: load_language_model(directory, device=device, dtype="float32") for device in ("cuda", "cpu")
    }


def measured(language_model, name):
    subject = Subject(
        language_model=language_model,
        prefix_token=resolve_prefix_token("auto", language_model),
        scoring=OPTIONS,
        options=MEASUREMENT_OPTIONS,
    )
    return MEASUREMENTS[name].measure(subject, TEXTS, lambda _: None)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements_agree_with_the_cpu(reciting, name):
    ours, theirs = (dict(numbers(measured(reciting[device], name))) for device in ("cuda", "cpu"))
    assert ours.keys() == theirs.keys()
    for place, number in theirs.items():
        expected = pytest.approx(number, abs=2e-3) if isinstance(number, float) else number
        assert ours[place] == expected, place


def test_membership_agrees_with_the_cpu(reciting):
    ours, theirs = (
        score_texts(reciting[device], [text.text for text in TEXTS], OPTIONS) for device in ("cuda", "cpu")
    )
    for here, there in zip(ours, theirs, strict=True):
        assert here.metrics["membership"] == pytest.approx(there.metrics["membership"], abs=2e-3)
