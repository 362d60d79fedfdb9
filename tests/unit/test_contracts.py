"""What clients may send: strict, closed, and never coerced."""

import pytest
from pydantic import TypeAdapter, ValidationError

from app.contracts import AuditSpec, HubSource, LanguageModelReference, PathSource, TextRecord

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
