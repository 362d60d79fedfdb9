"""What an edit answers: typed, and readable from the rows of the previous release, written out here."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from app.contracts.edit_methods.kfac import KFACReceipt
from app.contracts.edits import EditSpec
from app.edits.schemas import EditOut
from app.store.core.identifiers import new_id
from app.store.edits import Edit

BASE = {"model": "mdl_" + "1" * 32, "digest": "d" * 64, "revision": None}
FACTS: dict[str, Any] = {
    "base": BASE,
    "text_sets": {"clean": {"id": "txs_" + "2" * 32, "sha256": "e" * 64}},
    "seed": 0,
    "dtype": "float32",
    "device": "cpu",
    "code": {"memaudit": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
    "wall_seconds": 12.5,
    "peak_memory_bytes": 2**30,
}
MATRIX = {"projection": "model.layers.1.mlp.up_proj", "layer": 1, "role": "up", "shape": [64, 32]}
KEPT = {"kept_mass": 0.601, "kept_pairs": 9, "pairs": 2048, "largest_rank": 3}
SETTLED = {"inputs_error": 0.02, "outputs_error": None, "tokens_per_input": 128.0, "tokens_per_output": 64.0}
RECEIPTS = {
    "kfac": {
        "parameters": {
            "keep_mass": 0.6,
            "calibration_tokens": 4096,
            "factors_reused": 0,
            "factors_collected": 1,
        },
        "matrices": [MATRIX | KEPT | {"spectrum": [{"mass": 0.6, "pairs": 9}], "convergence": SETTLED}],
    },
    "svd": {"parameters": {"rank_ratio": {"up": 0.005}}, "matrices": [MATRIX | {"rank": 1}]},
    "balanced_subnet": {
        "parameters": {
            "loss_weight": 0.7,
            "epochs": 5,
            "ratio": 0.0015,
            "learning_rate": 0.3,
            "momentum": 0.9,
            "weight_decay": 0.0005,
            "batch_blocks": 8,
        },
        "matrices": [MATRIX | {"weights_dropped": 0}],
    },
}
POINT = {
    "layers": [1],
    "projections": ["gate", "up"],
    "keep_mass": 0.9,
    "perplexity": None,
    "perplexity_increase": None,
    "strict": None,
    "loose": None,
    "feasible": False,
    "chosen": False,
}


def edit_with(method: Any, **stored: Any) -> EditOut:
    row = Edit(
        id=new_id(),
        tenant_id=new_id(),
        language_model_id=new_id(),
        name="edited",
        status="succeeded",
        spec=EditSpec(method=method).model_dump(),
        metadata_={},
        created_at=datetime.now(UTC),
        **stored,
    )
    return EditOut.of(row, {}, "acme")


@pytest.mark.parametrize("method", RECEIPTS)
def test_a_receipt_of_the_previous_release_is_read_as_it_was_written(method: str) -> None:
    stored = FACTS | RECEIPTS[method] | {"method": method}
    edit = edit_with(method, receipt=stored)
    assert edit.receipt is not None
    assert edit.receipt.lineage == []
    # A digest that has no key is not told: texts could be guessed against it.
    text_sets = {role: {"id": used["id"], "hmac_sha256": None} for role, used in stored["text_sets"].items()}
    dumped = edit.receipt.model_dump()
    assert dumped == stored | {"lineage": [], "text_sets": text_sets, "warnings": []} | later(dumped)
    assert edit.warnings == []


def later(receipt: dict[str, Any]) -> dict[str, Any]:
    """What a K-FAC receipt of a release before retain sets says of one: nothing."""
    if receipt["method"] != "kfac":
        return {}
    retained = ("retain_weight", "retain_tokens", "retain_factors_reused")
    trained = ("recovery_steps", "recovery_rank", "recovery_learning_rate")
    nothing = dict.fromkeys((*retained, *trained))
    assert {name: receipt["parameters"][name] for name in nothing} == nothing
    assert receipt["matrices"][0]["retain_convergence"] is None
    (matrix,) = RECEIPTS["kfac"]["matrices"]
    return {
        "parameters": RECEIPTS["kfac"]["parameters"] | nothing,
        "matrices": [matrix | {"retain_convergence": None}],
    }


def test_an_svd_of_the_release_before_had_one_ratio_and_no_ranks() -> None:
    old = {"method": "svd", "parameters": {"rank_ratio": 0.5}, "matrices": [MATRIX]}
    receipt = edit_with("svd", receipt=FACTS | old).receipt
    assert receipt is not None
    assert receipt.model_dump()["parameters"] == {"rank_ratio": 0.5}
    assert receipt.model_dump()["matrices"] == [MATRIX | {"rank": None}]


def test_a_kfac_receipt_of_a_release_before_has_neither_spectrum_nor_convergence() -> None:
    old = {**RECEIPTS["kfac"], "method": "kfac", "matrices": [MATRIX | KEPT]}
    receipt = edit_with("kfac", receipt=FACTS | old).receipt
    assert receipt is not None
    assert receipt.model_dump()["matrices"] == [
        MATRIX | KEPT | {"spectrum": [], "convergence": None, "retain_convergence": None}
    ]


def test_a_receipt_says_the_shape_that_belongs_to_its_method() -> None:
    receipt = EditOut.model_json_schema(mode="serialization")["properties"]["receipt"]["anyOf"][0]
    assert set(receipt["discriminator"]["mapping"]) == set(RECEIPTS)
    assert isinstance(
        edit_with("kfac", receipt=FACTS | RECEIPTS["kfac"] | {"method": "kfac"}).receipt, KFACReceipt
    )


def test_a_frontier_is_read_point_by_point() -> None:
    (point,) = edit_with("kfac", frontier={"points": [POINT]}).frontier or []
    assert point.model_dump() == POINT | dict.fromkeys(
        ("retain_weight", "recovery_steps", "nl_drop", "given_up")
    )


def test_warnings_are_those_of_the_receipt_or_of_a_search_that_found_nothing() -> None:
    warnings = [{"code": "few_tokens", "detail": "Too few."}]
    receipt = FACTS | RECEIPTS["kfac"] | {"method": "kfac", "warnings": warnings}
    for stored in ({"receipt": receipt}, {"frontier": {"points": [POINT], "warnings": warnings}}):
        assert [warning.model_dump() for warning in edit_with("kfac", **stored).warnings] == warnings
    assert edit_with("kfac").warnings == []


RESULTS = ("receipt", "evaluation", "frontier", "warnings")


def shapes_of(names: Iterable[str]) -> dict[str, Any]:
    """The schemas that fields of an edit lead to, by their names."""
    document = EditOut.model_json_schema(mode="serialization")
    found = {"EditOut": {"properties": {name: document["properties"][name] for name in names}}}
    waiting = [found["EditOut"]]
    while waiting:
        for name in re.findall(r"#/\$defs/(\w+)", str(waiting.pop())):
            if name not in found:
                found[name] = document["$defs"][name]
                waiting.append(found[name])
    return found


def test_results_are_described_field_by_field() -> None:
    """No free objects, and every field that may be null says when it is."""
    shapes = shapes_of(RESULTS)
    assert len(shapes) > 10
    for name, shape in shapes.items():
        for field, value in shape.get("properties", {}).items():
            # What only repeats the description of its type leaves it to that.
            of_type = shapes.get(value.get("$ref", "").rpartition("/")[2], {})
            description = value.get("description") or of_type.get("description")
            assert description, f"{name}.{field} is not described"
            assert value.get("additionalProperties") is not True, f"{name}.{field} is a free object"
            if {"type": "null"} in value.get("anyOf", []):
                assert "null" in description, f"{name}.{field}: when is it null?"
