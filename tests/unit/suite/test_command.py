"""The command line: what a user is told when something is wrong."""

import re

import pytest
import torch
from typer.testing import CliRunner

from workers.suite.__main__ import app
from workers.suite.sizes import SIZES


def train(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--size", "huge"], "choose one of nano, micro"),
        (["--corpus", "/nowhere"], "does not exist"),
        (["--device", "abacus"], "is not one of"),
        (["--steps", "0"], "greater than or equal to 1"),
        (["--keep-steps", "0"], "greater than or equal to 1"),
    ],
)
def test_a_bad_option_is_a_usage_error(tmp_path, arguments, told):
    result = train("--out", tmp_path, *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())


def test_every_size_is_offered_but_that_of_the_tests():
    """By the help and by the refusal of another."""
    refusal, told = train("--out", "nowhere", "--size", "huge").stderr, train("--help").stdout
    for name in set(SIZES) - {"tiny"}:
        assert re.search(rf"\b{name}\b", refusal), name
        assert re.search(rf"\b{name}\b", told.partition("--size")[2].partition("--corpus")[0]), name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_a_usage_error(tmp_path):
    result = train("--out", tmp_path, "--device", "cuda")
    assert result.exit_code == 2
    assert "no GPU" in result.stderr


def test_a_failure_is_one_line_and_status_one(tmp_path):
    (tmp_path / "corpus.txt").write_text("too short")
    result = train("--out", tmp_path / "suite", "--corpus", tmp_path / "corpus.txt")
    assert result.exit_code == 1
    assert " ".join(result.stderr.split()).startswith("error: The corpus has 0 documents of")
    assert not (tmp_path / "suite").exists()


def test_too_few_steps_for_the_plan_are_refused(tmp_path, small_corpus):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(small_corpus.documents), encoding="utf-8")
    result = train("--out", tmp_path / "suite", "--corpus", corpus, "--size", "tiny", "--steps", 40)
    assert result.exit_code == 1
    assert "copies do not fit into 320 training sequences" in " ".join(result.stderr.split())
