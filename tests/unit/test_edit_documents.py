"""The receipt and the model card of an edited model. Oracle: the hub's own reader of cards."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from huggingface_hub import ModelCard

from app.contracts.edits import EditEvaluation, EditSpec, Limits
from app.contracts.texts import TextSetRole
from app.store.core.identifiers import new_id
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.lineage import Ancestor
from tests.evidence_records import proof_facts
from workers.audits.rows import TextFacts
from workers.edits.comparison import compare
from workers.edits.documents import model_card, write_receipt_and_card
from workers.edits.evaluation import Readings, Scored
from workers.edits.inputs import EditInputs
from workers.edits.proof import Proven
from workers.edits.scores import ScoreFile
from workers.science.scoring.texts import TextScore

SECRET = "Ishmael of Nantucket"
COMMIT = "c" * 40
HUB = Ancestor("mdl_1", "hub", "allegrolab/hubble-1b", revision=COMMIT, digest="d" * 64)
PATH = Ancestor("mdl_2", "path", "a directory`s\n# name", revision=None, digest="d" * 64)
EDITED = Ancestor("mdl_3", "artifact", "acme/forgetful", revision="a" * 40, digest="e" * 64)
RECEIPT = {
    "method": "kfac",
    "parameters": {"keep_mass": 0.7, "calibration_tokens": 4096, "retain_weight": None},
    "matrices": [
        {"projection": f"model.layers.{layer}.mlp.{role}_proj", "layer": layer, "role": role}
        for layer in (5, 4)
        for role in ("gate", "up")
    ],
    "warnings": [{"code": "few_tokens", "detail": "There is little text."}],
    "base": {"digest": "d" * 64},
}


def inputs_of(*lineage: Ancestor) -> EditInputs:
    limits = Limits(max_strict=0.5)
    return EditInputs(
        edit_id=new_id(),
        tenant_id=new_id(),
        name="hubble-forgetful",
        spec=EditSpec(method="kfac", evaluation=EditEvaluation(limits=limits)),
        base=LanguageModelRow(id=new_id(), digest="d" * 64),
        lineage=lineage,
        text_sets={},
    )


def reading(strict: float, nl: float) -> Readings:
    """A model's readings of texts whose facts no document may show."""
    score = TextScore(
        5, len(SECRET), nl=nl, metrics={"extraction": {"strict": None, "loose": None, "said": SECRET}}
    )
    rows = cast("ScoreFile", [(TextFacts(0, text_id=SECRET, group=SECRET, duplicates=None), score)])
    summary = {
        "nl": {"n": 1, "mean": nl, "low": None, "high": None},
        "strict": {"n": 10, "count": round(10 * strict), "share": strict, "low": 0.1, "high": 0.95},
        "loose": {"n": 10, "count": 10, "share": 1.0, "low": 0.7, "high": 1.0},
        "perplexity": math.exp(-nl),
    }
    roles = (TextSetRole.MEMORIZED, TextSetRole.CLEAN)
    sets = {role: Scored(role, rows, summary) for role in roles}
    sets[TextSetRole.CLEAN] = Scored(TextSetRole.CLEAN, rows, summary | {"strict": None, "loose": None})
    return Readings(sets, torch.arange(10)[None], {}, ranked_positions=[1])


def evaluation_of(inputs: EditInputs) -> dict[str, Any]:
    return compare(inputs, reading(0.9, -0.125), reading(0.2, -1.5), Proven())


def row_of(card: str, role: str) -> list[str]:
    (line,) = [line for line in card.splitlines() if line.startswith(f"| {role} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_card_tells_lineage_table_and_limits() -> None:
    inputs = inputs_of(HUB)
    content = model_card(inputs, RECEIPT, evaluation_of(inputs), {})
    card = ModelCard(content)
    assert card.data.base_model == HUB.name
    assert card.data.base_model_relation == "finetune"
    assert card.data.library_name == "transformers"
    for part in (
        "# hubble-forgetful",
        f"Derived from `allegrolab/hubble-1b` at revision `{COMMIT}`",
        "`kfac`",
        f"`{'d' * 64}`",
        "- layers: [4, 5]",
        "- projections: ['gate', 'up']",
        "- keep mass: 0.7",
        "- calibration tokens: 4096",
        "nDCG@10 of next-token rankings on clean text: 1.000",
        "`receipt.json`",
    ):
        assert part in card.text
    assert "retain weight" not in card.text
    all_loose = "1.000 [0.700, 1.000]"
    shares = ["0.900 [0.100, 0.950]", "0.200 [0.100, 0.950]", all_loose, all_loose]
    expected = [*shares, "-0.125", "-1.500", "1.133", "4.482"]
    assert row_of(content, "memorized") == ["memorized", "1", *expected]
    assert row_of(content, "clean") == ["clean", "1", "", "", "", "", *expected[4:]]
    header = row_of(content, "texts")
    assert len(header) == len(expected) + 2
    assert row_of(content, "max_strict:memorized") == [
        "max_strict:memorized",
        "0.5",
        "0.200 [0.100, 0.950]",
        "inconclusive",
    ]
    limits = card.text.partition("## Limits")[2]
    assert limits.splitlines()[2] == "- There is little text."
    for part in ("that were measured", "further training", "quantisation", "other prompts", "arithmetic"):
        assert part in limits


def test_a_card_tells_how_many_questions_of_each_task_are_answered() -> None:
    """Identity: the numbers of the evaluation; a name cannot leave its cell."""
    right: dict[str | None, list[bool | None]] = {"a|`b`\n# c": [True] * 3 + [False], None: [True, True]}
    later: dict[str | None, list[bool | None]] = {"a|`b`\n# c": [True, False, False, False], None: [True] * 2}
    inputs = inputs_of(HUB)
    found = compare(
        inputs, replace(reading(0.9, -1), tasks=right), replace(reading(0.2, -1), tasks=later), Proven()
    )
    content = model_card(inputs, RECEIPT, found, {})
    cells = row_of(content, "`a__b__# c`")
    assert [cell.partition(" ")[0] for cell in cells[1:]] == ["4", "0.750", "0.250", "0.333"]
    assert row_of(content, "no group")[1:2] == ["2"]
    assert "questions" not in model_card(inputs, RECEIPT, evaluation_of(inputs), {})


def test_a_card_tells_membership_and_what_is_held_and_names_the_reference_only_if_there_is_one() -> None:
    """Identity: the numbers of the evaluation."""
    inputs, facts = inputs_of(HUB), proof_facts()
    found = evaluation_of(inputs) | facts
    content = model_card(inputs, RECEIPT, found, {})
    loss = "memorized | membership AUC by `loss`"
    assert row_of(content, loss)[2:] == [
        "0.900",
        "0.300 [0.200, 0.400]",
        "-0.600 [-0.850, -0.350]",
        "0.500 [0.200, 0.400]",
    ]
    means = ["0.750 [0.500, 1.000]", "0.500 [0.250, 0.750]", "-0.250 [-0.500, 0.000]", "0.375 [0.125, 0.625]"]
    for name in ("extraction strength", "exact memorization"):
        assert row_of(content, f"memorized | {name}")[2:] == means
    assert f"its digest is `{'c' * 64}`" in content
    alone = model_card(inputs, RECEIPT, found | {"reference": None}, {})
    assert row_of(alone, "memorized | extraction strength")[2:] == means[:3]
    assert "reference" not in alone
    unproved = model_card(inputs, RECEIPT, found | {"membership": None, "proof": None}, {})
    assert "AUC" not in unproved.partition("## Limits")[0]


def test_a_card_shows_figures_with_what_they_say_whatever_groups_are_named() -> None:
    """Oracle: CommonMark's own rule, that a backslash takes a mark's meaning away."""
    inputs = inputs_of(HUB)
    figures = {"figures/tasks.svg": "kept: a](x) <b>\n# c 50%.", "figures/frontier.svg": "Tried."}
    content = model_card(inputs, RECEIPT, evaluation_of(inputs), figures)
    shown = content.partition("## Figures\n\n")[2].partition("## Verdict")[0]
    assert shown == (
        "![kept: a\\](x) \\<b\\>\\_# c 50%.](figures/tasks.svg)\n\n![Tried.](figures/frontier.svg)\n\n"
    )
    assert "## Figures" not in model_card(inputs, RECEIPT, evaluation_of(inputs), {})


def test_a_card_names_a_base_from_disk_by_its_last_name_and_no_hub_takes_it_for_its_own() -> None:
    inputs = inputs_of(PATH)
    content = model_card(inputs, RECEIPT, evaluation_of(inputs) | {"ndcg": None}, {})
    assert ModelCard(content).data.base_model is None
    assert "Derived from `a directory_s_# name` by memaudit" in content
    assert "nDCG" not in content


def test_a_card_of_an_edit_of_an_edit_tells_the_whole_lineage() -> None:
    inputs = inputs_of(EDITED, HUB)
    content = model_card(inputs, RECEIPT, evaluation_of(inputs), {})
    assert ModelCard(content).data.base_model == HUB.name
    assert f"Derived from `acme/forgetful` at revision `{'a' * 40}` by memaudit" in content
    assert f"That was derived from `allegrolab/hubble-1b` at revision `{COMMIT}`." in content


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "target"
    target.mkdir()
    return target


@pytest.mark.parametrize("document", ["README.md", "receipt.json"])
def test_no_document_holds_a_submitted_text(target: Path, document: str) -> None:
    inputs = inputs_of(HUB)
    write_receipt_and_card(inputs, RECEIPT, evaluation_of(inputs), {}, target)
    content = (target / document).read_text()
    assert SECRET not in content
    assert "memorized" in content


def test_the_receipt_beside_the_weights_holds_the_evaluation(target: Path) -> None:
    inputs = inputs_of(HUB)
    evaluation = evaluation_of(inputs)
    write_receipt_and_card(inputs, RECEIPT, evaluation, {}, target)
    assert {path.name for path in target.iterdir()} == {"README.md", "receipt.json"}
    assert json.loads((target / "receipt.json").read_bytes()) == RECEIPT | {"evaluation": evaluation}
