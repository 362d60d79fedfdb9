"""The background corpus."""

import json
import subprocess
import sys

import pytest

from workers.suite.corpus import (
    decontaminate,
    hold_out,
    read_corpus,
    split_document,
)
from workers.suite.errors import CorpusTooSmall, CorpusUnreadable

WORDS = [f"word{number}" for number in range(40)]


def test_the_standard_library_is_read_whole(standard_library):
    """Oracle: docstrings and a topic as the running interpreter knows them."""
    text = "\n\n".join(standard_library.documents)
    characters = sum(map(len, standard_library.documents))
    assert characters > 1_500_000
    assert len(standard_library.documents) == len(set(standard_library.documents))
    assert json.JSONDecoder.raw_decode.__doc__.split("\n")[0] in text
    assert 'The "with" statement is used to wrap the execution of a block with' in text


def test_another_process_reads_the_same_standard_library(standard_library):
    code = "from workers.suite.corpus import read_corpus; print(read_corpus(None, 672).sha256)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert output.stdout.strip() == standard_library.sha256


def test_documents_are_cut_between_paragraphs_and_lose_nothing():
    paragraphs = [" ".join(WORDS[: 1 + number % 40]) for number in range(60)]
    documents = list(split_document("\n\n".join(paragraphs), 500))
    assert [paragraph for document in documents for paragraph in document.split("\n\n")] == paragraphs
    assert len(documents) > 5
    assert all(len(document) >= 500 for document in documents[:-1])


def test_indentation_stays_and_trailing_blanks_go():
    assert list(split_document("\n  code:  \n\n\n    indented\t\n  \n", 500)) == ["  code:\n\n    indented"]


def test_a_directory_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("second")
    (tmp_path / "a.txt").write_bytes(b"first\r\nline")
    (tmp_path / "c.md").write_text("second")
    corpus = read_corpus(tmp_path, 100)
    assert corpus.documents == ("first\nline", "second")
    assert corpus.name == tmp_path.name


@pytest.mark.parametrize("content", [b"\xff\xfe", b"nul\x00 inside"])
def test_a_file_that_is_not_text_is_named(tmp_path, content):
    (tmp_path / "broken.bin").write_bytes(content)
    with pytest.raises(CorpusUnreadable, match=r"broken\.bin"):
        read_corpus(tmp_path, 100)


def test_an_empty_corpus_is_refused(tmp_path):
    with pytest.raises(CorpusUnreadable, match="no text"):
        read_corpus(tmp_path, 100)


def test_a_run_of_thirteen_words_is_an_overlap_and_twelve_are_not():
    held_out = " ".join(WORDS[:20])
    twelve = "before " + " ".join(WORDS[5:17]) + " after"
    thirteen = "before\n" + "\n".join(WORDS[5:18]).upper() + " after"
    assert decontaminate([twelve, thirteen], [held_out]) == [twelve]


def test_held_out_documents_are_long_and_do_not_overlap():
    long, other = " ".join(WORDS[:30]), " ".join(reversed(WORDS))
    documents = ["short", long, "prefix " + long, other]
    assert hold_out(documents, count=2, least_characters=100) == [long, other]


def test_a_corpus_with_too_few_long_documents_is_refused():
    with pytest.raises(
        CorpusTooSmall, match="1 documents of 100 characters or more to hold out; 2 are needed"
    ):
        hold_out([" ".join(WORDS)], count=2, least_characters=100)
