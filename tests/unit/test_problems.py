"""Problem documents say where and what, and never repeat what was sent."""

import pytest
from pydantic import TypeAdapter, ValidationError

from app.audits.schemas import AuditCreate
from app.contracts.refusals import validation_problem
from app.contracts.sources import LanguageModelReference
from app.errors import FieldError

SECRET = "the patient's name is"


def fields_of(body: object) -> list[FieldError]:
    with pytest.raises(ValidationError) as failure:
        AuditCreate.model_validate(body)
    problem = validation_problem(failure.value.errors(), skip=0)
    assert SECRET not in str(problem.problem())
    return problem.errors


def test_a_pointer_names_the_field() -> None:
    body = {"model": "mdl_1", "text_set": "txs_1", "options": {"top_k": SECRET}}
    assert fields_of(body) == [FieldError("/options/top_k", "int_type")]


def test_a_field_that_the_client_made_up_is_not_repeated() -> None:
    body = {"model": "mdl_1", "text_set": "txs_1", "options": {SECRET: 1}}
    assert fields_of(body) == [FieldError("/options", "extra_forbidden")]


def test_metadata_keys_are_not_repeated() -> None:
    body = {"model": "mdl_1", "text_set": "txs_1", "metadata": {SECRET: object()}}
    assert {field.pointer for field in fields_of(body)} == {"/metadata"}


def test_the_tags_of_unions_are_no_part_of_a_pointer() -> None:
    body = {"model": {"type": "path", "path": SECRET}, "text_set": "txs_1"}
    assert fields_of(body) == [FieldError("/model/path", "string_pattern_mismatch")]


def test_slashes_and_tildes_are_escaped() -> None:
    adapter = TypeAdapter(dict[str, LanguageModelReference])
    with pytest.raises(ValidationError) as failure:
        adapter.validate_python({"a/b~c": 3})
    (field,) = validation_problem(failure.value.errors(), skip=0).errors[:1]
    assert field.pointer.startswith("/a~1b~0c")
