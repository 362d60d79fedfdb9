"""Tiny language models, written to disk and loaded once for the whole run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_models import (
    ARCHITECTURES,
    EDITABLE_ARCHITECTURES,
    english_sentences,
    one_thread,
    save_reciting_model,
    save_tiny_model,
)
from workers.science.models.loading import LanguageModel, load_language_model


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("checkpoints")
    return {name: save_tiny_model(directory / name, name) for name in EDITABLE_ARCHITECTURES}


@pytest.fixture(scope="session")
def language_models(checkpoints: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_language_model(directory, device="cpu") for name, directory in checkpoints.items()}


@pytest.fixture(scope="session", params=ARCHITECTURES)
def each_language_model(
    request: pytest.FixtureRequest, language_models: dict[str, LanguageModel]
) -> LanguageModel:
    return language_models[request.param]


@pytest.fixture(scope="session", params=EDITABLE_ARCHITECTURES)
def each_editable_model(
    request: pytest.FixtureRequest, language_models: dict[str, LanguageModel]
) -> LanguageModel:
    """Shared by all tests: whatever writes to it puts the weights back."""
    return language_models[request.param]


@pytest.fixture(scope="session")
def llama(language_models: dict[str, LanguageModel]) -> LanguageModel:
    return language_models["llama"]


@pytest.fixture(scope="session")
def recited_texts() -> list[str]:
    return [sentence for sentence in english_sentences() if len(sentence) > 300][:4]


@pytest.fixture(scope="session")
def reciting(tmp_path_factory: pytest.TempPathFactory, recited_texts: list[str]) -> LanguageModel:
    directory = tmp_path_factory.mktemp("reciting")
    return load_language_model(save_reciting_model(directory, recited_texts), device="cpu")
