"""A small real corpus, and what a tiny suite draws from it."""

from dataclasses import replace

import pytest

from workers.suite.corpus import Corpus, read_corpus
from workers.suite.preparation import prepare
from workers.suite.sizes import SIZES


@pytest.fixture(scope="session")
def standard_library():
    return read_corpus(None, SIZES["tiny"].document_characters)


@pytest.fixture(scope="session")
def small_corpus(standard_library):
    """Part of the standard library, each long document a second time under another heading."""
    documents = standard_library.documents[:600]
    copies = tuple(f"Also found elsewhere:\n\n{document}" for document in documents if len(document) > 600)
    return Corpus("small", documents + copies)


@pytest.fixture(scope="session")
def tiny():
    """A size whose background shows every document at least once."""
    return replace(SIZES["tiny"], steps=300)


@pytest.fixture(scope="session")
def prepared(small_corpus, tiny):
    return prepare(small_corpus, tiny, seed=3)
