"""The registries of edit methods: what a contract promises a worker can do, and the reverse."""

import re
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from transformers import AutoModelForCausalLM

from app.contracts import projections
from app.contracts.edit_methods import METHODS, DefaultLayers, MethodContract, register
from app.contracts.edit_methods.svd import SVDReceipt
from app.contracts.edits import EditMethod, EditSpec
from app.contracts.results.receipts import Receipt
from app.edits.schemas import EditCreate
from app.errors import EditFailed
from tests.tiny_models import save_tiny_model
from workers.edits.methods import METHODS as RUNS
from workers.edits.methods import EditMethod as Run
from workers.edits.methods import find_method
from workers.edits.methods import register as register_run
from workers.edits.methods.registry import chosen_layers, chosen_projections
from workers.edits.progress import STAGES
from workers.science.baselines.balanced_subnet import BalancedSubnetOptions
from workers.science.models.projections import Role, default_layers

PAGE = Path(__file__).parents[2] / "docs" / "edits.md"
# Fields of a request that every method reads.
SHARED = {"method", "layers", "projections", "evaluation", "seed", "dtype"}


def test_a_worker_can_run_what_a_client_can_ask_for_and_nothing_else() -> None:
    assert set(RUNS) == set(METHODS) == set(get_args(EditMethod))
    assert all(name == method.name for name, method in METHODS.items())
    assert all(name == method.name for name, method in RUNS.items())


def test_a_method_that_no_worker_has_fails_the_edit_and_is_never_taken_for_another() -> None:
    with pytest.raises(EditFailed, match="'lora'"):
        find_method("lora")


def test_receipts_are_those_of_the_registry() -> None:
    union = get_args(get_args(Receipt)[0])
    assert union == tuple(method.receipt for method in METHODS.values())


def test_every_field_of_a_request_is_read_by_all_methods_or_by_some_that_say_so() -> None:
    """What nobody reads would be ignored in silence."""
    options = {option for method in METHODS.values() for option in method.read_options}
    assert options.isdisjoint(SHARED)
    assert options | SHARED == set(EditSpec.model_fields)


def test_science_finds_projections_by_the_names_of_the_contracts() -> None:
    assert [str(role) for role in Role] == list(get_args(projections.Role))


def test_science_learns_a_subnet_by_the_defaults_of_the_contract() -> None:
    asked = EditSpec(method="balanced_subnet").balanced_subnet.model_dump()
    assert BalancedSubnetOptions(**asked) == BalancedSubnetOptions()


def test_a_search_of_kfac_tries_its_default_layers_first() -> None:
    default = METHODS["kfac"].default_layers
    for depth in (2, 6, 16, 32):
        assert default_layers(depth) == default_layers(depth, first=default.first, count=default.count)


@pytest.mark.parametrize(("depth", "layer"), [(32, 21), (16, 10), (6, 4), (2, 1), (1, 0)])
def test_svd_takes_the_layer_of_the_paper_at_any_depth(depth: int, layer: int) -> None:
    default = METHODS["svd"].default_layers
    assert default_layers(depth, first=default.first, count=default.count) == [layer]


def test_stages_of_a_method_are_none_of_those_that_all_edits_go_through() -> None:
    for method in METHODS.values():
        assert set(method.stages).isdisjoint(STAGES)


def test_where_an_edit_changes_weights_is_what_was_asked_or_the_default_of_its_method(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(save_tiny_model(tmp_path / "model"))

    def places(**fields: Any) -> list[tuple[int, str]]:
        spec = EditSpec(method="kfac", **fields)
        return [(found.layer, str(found.role)) for found in chosen_projections(spec, model)]

    assert places() == [(1, "gate"), (1, "up")]
    assert places(layers=[0], projections=["down"]) == [(0, "down")]
    assert chosen_layers(EditSpec(method="svd"), model) == [1]


def test_the_page_of_edits_describes_every_method_as_its_contract_does() -> None:
    described = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE))
    for method in METHODS.values():
        assert described[method.name] == method.description


def contract(**fields: Any) -> MethodContract:
    facts: dict[str, Any] = {
        "name": "svd",
        "description": "cuts",
        "receipt": SVDReceipt,
        "stages": {"decomposing": 5},
        "default_layers": DefaultLayers(21, 1),
        "default_projections": None,
    }
    return MethodContract(**facts | fields)


class OtherReceipt(SVDReceipt):
    method: Literal["other"]  # type: ignore[assignment]


OTHER = {"name": "other", "receipt": OtherReceipt}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "already"),
        ({"name": "other"}, "not the receipt of other"),
        ({**OTHER, "stages": {}}, "stages of other"),
        ({**OTHER, "stages": {"first": 4}}, "stages of other"),
        ({**OTHER, "stages": {"late": 65}}, "stages of other"),
        ({**OTHER, "stages": {"second": 20, "first": 10}}, "stages of other"),
    ],
)
def test_a_contract_that_contradicts_itself_is_not_registered(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        register(contract(**fields))
    assert "other" not in METHODS


@pytest.mark.parametrize("name", ["kfac", "unheard_of"])
def test_a_worker_method_needs_a_name_of_its_own_that_has_a_contract(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        register_run(Run(name, RUNS["kfac"].run))


def test_only_a_method_that_searches_takes_a_search() -> None:
    for method in METHODS.values():
        fields = {"calibration_text_set": "txs_a", "forget_text_set": "txs_b", "layers": "auto"}
        body = {"model": "mdl_0", "name": "edited", "method": method.name, **fields}
        if method.searches:
            assert EditCreate.model_validate(body).searches
        else:
            with pytest.raises(ValueError, match="search_needs_kfac"):
                EditCreate.model_validate(body)
