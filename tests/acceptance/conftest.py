"""What acceptance tests share: a checkpoint, texts, and deployments."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployments import Deploy, deployments
from tests.edit_requests import RECITED
from tests.tiny_models import english_sentences, save_reciting_model, save_tiny_model

AUDITED_TEXTS = 400


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def audited_texts() -> list[dict[str, Any]]:
    """Texts of mixed length, enough for a few dozen shards."""
    sentences = english_sentences()
    return [
        {
            "id": f"text-{number}",
            "text": sentences[number % len(sentences)][: 40 + 7 * (number % 120)],
            "duplicates": 4 ** (number % 3),
            "group": "manual",
        }
        for number in range(AUDITED_TEXTS)
    ]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return [sentence[:200] for sentence in english_sentences()]


@pytest.fixture(scope="session")
def reciting_checkpoint(tiny_checkpoint: Path, sentences: list[str]) -> Path:
    return save_reciting_model(tiny_checkpoint.parent / "reciting", sentences[:RECITED])


@pytest.fixture
def deploy(tiny_checkpoint: Path) -> Iterator[Deploy]:
    with deployments([tiny_checkpoint.parent]) as start:
        yield start


@pytest.fixture(scope="module")
def module_deploy(tiny_checkpoint: Path) -> Iterator[Deploy]:
    with deployments([tiny_checkpoint.parent]) as start:
        yield start
