"""What acceptance tests share: a checkpoint, texts, a suite, and deployments."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.acceptance.evidence_fixture import evidence, pair  # noqa: F401 - fixtures for all who ask for them
from tests.collector import Collector
from tests.deployments import Deploy, deployments
from tests.edit_requests import RECITED
from tests.tiny_models import english_sentences, save_reciting_model, save_tiny_model
from workers.suite.build import Request, build
from workers.suite.corpus import read_corpus
from workers.suite.sizes import SIZES
from workers.suite.variants import Variants

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


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus for suites of the size tiny."""
    path = tmp_path_factory.mktemp("corpus") / "documentation.txt"
    documents = read_corpus(None, SIZES["tiny"].document_characters).documents[:900]
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def quiet() -> Console:
    return Console(quiet=True)


@pytest.fixture(scope="session")
def whole_suite(tmp_path_factory: pytest.TempPathFactory, corpus_path: Path, quiet: Console) -> Path:
    """A suite of every run that there is."""
    out = tmp_path_factory.mktemp("whole") / "suite"
    every_run = Variants(timing=True, dilution=True, paraphrases=True, interference=True)
    assert build(Request(SIZES["tiny"], out, corpus=corpus_path, variants=every_run), quiet)
    return out
