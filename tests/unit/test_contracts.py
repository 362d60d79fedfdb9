"""What clients may send: strict, closed, and never coerced."""

from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from app.contracts.audits import AuditOptions, AuditSpec, PrefixTokenName, StoredAuditSpec
from app.contracts.refusals import validation_problem
from app.contracts.sources import HubSource, LanguageModelReference, PathSource
from app.contracts.texts import TextRecord
from workers.science.scoring import texts
from workers.science.scoring.texts import ScoringOptions

references: TypeAdapter[str | HubSource | PathSource] = TypeAdapter(LanguageModelReference)


def code_of(record: dict[str, object]) -> str:
    with pytest.raises(ValidationError) as failure:
        TextRecord.model_validate(record)
    return str(failure.value.errors()[0]["type"])


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"text": "a\x00b"}, "nul_character"),
        ({"text": 3}, "string_type"),
        ({"text": "a", "duplicates": "4"}, "int_type"),
        ({"text": "a", "duplicates": -1}, "greater_than_equal"),
        ({"text": "a", "member": 1}, "bool_type"),
        ({"text": "a", "label": "b"}, "extra_forbidden"),
        ({"text": "a", "id": "two words"}, "string_pattern_mismatch"),
        ({"text": "a", "id": "newline\n"}, "string_pattern_mismatch"),
        ({"prefix": "a"}, "incomplete_split"),
        ({"id": "a"}, "missing_text"),
        ({"text": "abc", "prefix": "a", "suffix": "b"}, "split_mismatch"),
        ({"text": "a", "choices": ["x", "y"], "answer": 2}, "answer_out_of_range"),
        ({"text": "a", "answer": 0}, "answer_out_of_range"),
        ({"text": "a", "metadata": {"key": "x" * 20_000}}, "metadata_too_large"),
        ({"text": "a", "metadata": {"key": ["\x00"]}}, "nul_character"),
    ],
)
def test_a_bad_record_is_refused_with_its_code(record: dict[str, object], code: str) -> None:
    assert code_of(record) == code


def test_a_split_text_is_its_prefix_and_suffix() -> None:
    assert TextRecord.model_validate({"prefix": "To be, ", "suffix": "or not"}).full_text == "To be, or not"
    assert TextRecord.model_validate({"text": ""}).full_text == ""


def test_a_language_model_is_named_by_id_or_by_source() -> None:
    assert references.validate_python("mdl_0") == "mdl_0"
    hub = references.validate_python({"type": "hub", "repo": "allegrolab/hubble-1b"})
    assert hub == HubSource(type="hub", repo="allegrolab/hubble-1b", revision="main")
    path = references.validate_python({"type": "path", "path": "/models/a"})
    assert path == PathSource(type="path", path="/models/a")


@pytest.mark.parametrize("repo", ["../etc", "a/b/c", "a/../b", "", "a b", "a\n", ".hidden/x"])
def test_a_repository_name_is_a_name(repo: str) -> None:
    with pytest.raises(ValidationError):
        references.validate_python({"type": "hub", "repo": repo})


def test_options_are_finite_and_in_range() -> None:
    for options in ({"temperature": float("nan")}, {"temperature": 0.0}, {"prefix_tokens": 0}, {"top_k": -1}):
        with pytest.raises(ValidationError):
            AuditSpec.model_validate({"options": options})


@pytest.mark.parametrize("choice", ["auto", "bos", "eos", "bos_else_eos", "none", 0, 2**31 - 1])
def test_a_prefix_token_is_a_name_or_an_id(choice: str | int) -> None:
    assert AuditOptions.model_validate({"prefix_token": choice}).prefix_token == choice
    assert ScoringOptions(prefix_token=choice).prefix_token == choice  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", ["BOS", "", "7", -1, 2**31, 1.0, True, None, [1]])
def test_anything_else_is_no_prefix_token(choice: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        AuditSpec.model_validate({"options": {"prefix_token": choice}})
    pointer = validation_problem(refusal.value.errors(), skip=0).errors[0].pointer
    assert pointer == "/options/prefix_token"


def test_options_of_an_earlier_release_say_what_it_did() -> None:
    """It put BOS, else EOS, before every text; a request of today that leaves it open means `auto`."""
    stored = AuditSpec().model_dump()
    assert StoredAuditSpec.model_validate(stored).model_dump() == stored
    assert stored["options"]["prefix_token"] == "auto"
    for name in ("prefix_token", "special_tokens"):
        del stored["options"][name]
    read = StoredAuditSpec.model_validate(stored).options
    assert (read.prefix_token, read.special_tokens) == ("bos_else_eos", "control")


def test_the_names_of_prefix_tokens_are_those_of_the_scorer() -> None:
    assert get_args(PrefixTokenName) == get_args(texts.PrefixTokenName)
