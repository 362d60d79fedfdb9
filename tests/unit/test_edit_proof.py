"""What `stress` adds to the proof of an edit. Oracles: each reading by itself, numbers chosen by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch

from app.contracts.edits import Limits
from app.contracts.results.evaluations import Evaluation as EvaluationOut
from app.contracts.results.evaluations import StressChange
from app.contracts.results.proof import MembershipChange
from app.contracts.results.proof import Proof as ProofOut
from app.contracts.texts import TextSetRole
from app.store.core.identifiers import new_id
from app.store.language_models import LanguageModel as LanguageModelRow
from tests.edits_in_memory import (
    InputsInMemory,
    RecordedProgress,
    bare,
    inputs_with,
    rows_of,
    with_scaled_up_projections,
)
from tests.tiny_models import english_sentences, one_thread, save_reciting_model
from workers.edits.comparison import verdict
from workers.edits.evaluation import Evaluation, Readings
from workers.edits.membership import EVERY_SCORE, LOSS, Membership, membership_of_readings
from workers.edits.progress import EditProgress
from workers.edits.proof import Proof, Proven
from workers.running.runtime import Runtime
from workers.science.evaluation import relearning
from workers.science.evaluation.logit_lens import LogitLens
from workers.science.evaluation.prompts import with_changed_prompts
from workers.science.evaluation.relearning import shown_again
from workers.science.evaluation.strength import holdings
from workers.science.evaluation.stress import (
    FineTuning,
    fine_tuned,
    recites,
    rounded_weights,
    to_bfloat16,
    to_int4,
    to_int8,
)
from workers.science.evaluation.suffixes import suffixes_of
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.token_blocks import text_blocks
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions
from workers.science.statistics.intervals import Moments, mean_with_interval
from workers.science.statistics.paired import share_change
from workers.science.statistics.ranking import roc_auc
from workers.science.statistics.shares import share_with_interval

MEMORIZED, UNSEEN, CONTROL, CLEAN = (
    TextSetRole.MEMORIZED,
    TextSetRole.UNSEEN,
    TextSetRole.CONTROL,
    TextSetRole.CLEAN,
)
SPLIT = {"prefix_tokens": 24, "suffix_tokens": 8}
OPTIONS = ScoringOptions(metrics=frozenset({"extraction"}), **SPLIT)  # type: ignore[arg-type]
SENTENCES = [sentence[:150] for sentence in english_sentences() if len(sentence) >= 150]
TEXTS = {
    MEMORIZED: rows_of(SENTENCES[:5]),
    UNSEEN: rows_of(["", *SENTENCES[5:8]]),
    CONTROL: rows_of(SENTENCES[50:55]),
    CLEAN: rows_of(SENTENCES[100:105]),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearning, "STEPS", (1, 3))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    directory = save_reciting_model(tmp_path_factory.mktemp("base"), SENTENCES[:8])
    return load_language_model(directory, device="cpu")


@pytest.fixture(scope="module")
def edited(base: LanguageModel) -> LanguageModel:
    return with_scaled_up_projections(base, 0.6)


@pytest.fixture(scope="module")
def reference(base: LanguageModel) -> LanguageModel:
    return with_scaled_up_projections(base, -1.0)


class OneModel:
    """In the place of a worker's cache."""

    def __init__(self, language_model: LanguageModel) -> None:
        self._language_model = language_model

    def get(self, *_: Any) -> LanguageModel:
        return self._language_model


class RuntimeInMemory(NamedTuple):
    models: OneModel


class Tried(NamedTuple):
    """A proof, what it was made from, and what was told meanwhile."""

    found: Proven
    readings: tuple[Readings, Readings]
    progress: RecordedProgress


def tried(
    directory: Path,
    inputs: InputsInMemory,
    base: LanguageModel,
    edited: LanguageModel,
    reference: LanguageModel | None = None,
) -> Tried:
    progress = RecordedProgress()
    told = cast("EditProgress", progress)
    runtime = cast("Runtime", RuntimeInMemory(OneModel(reference or base)))
    evaluation = Evaluation(runtime, inputs, base, told, directory)
    readings = evaluation.read(base), evaluation.read(edited)
    bits = {name: value.clone() for name, value in edited.model.state_dict().items()}
    found = Proof(runtime, inputs, evaluation, told).run((base, edited), readings)
    assert all(torch.equal(value, bits[name]) for name, value in edited.model.state_dict().items())
    return Tried(found, readings, progress)


@pytest.fixture(scope="module")
def full(
    base: LanguageModel,
    edited: LanguageModel,
    reference: LanguageModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Tried:
    inputs = replace(
        inputs_with(TEXTS, stress="full", reference_model="mdl_1", **SPLIT),
        reference=LanguageModelRow(id=new_id(), digest="0" * 64),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relearning, "STEPS", (1, 3))
        return tried(tmp_path_factory.mktemp("full"), inputs, base, edited, reference)


def test_it_is_read_as_the_contract_says_and_each_stage_is_named(full: Tried) -> None:
    assert full.found.proof is not None
    ProofOut.model_validate(full.found.proof)
    for by_role in (full.found.stress or {}).values():
        for change in by_role.values():
            StressChange.model_validate(change)
    for by_score in (full.found.membership or {}).values():
        assert tuple(by_score) == EVERY_SCORE
        for change in by_score.values():
            MembershipChange.model_validate(change)
    assert full.progress.stages == [
        "stressing",
        "reading_layers",
        "generating",
        "relearning",
        "comparing_reference",
    ]


@pytest.mark.parametrize("role", [MEMORIZED, UNSEEN, CONTROL])
def test_prompts_and_weights_are_changed_one_at_a_time(
    full: Tried, base: LanguageModel, edited: LanguageModel, role: TextSetRole
) -> None:
    found, texts = full.found.stress, bare(TEXTS[role])
    assert found is not None
    for name, prompted in with_changed_prompts(base, texts, OPTIONS).items():
        expected = share_change(
            zip(recites(base, prompted, OPTIONS), recites(edited, prompted, OPTIONS), strict=True)
        )
        assert expected is not None
        change = found[name][role]
        assert change["change"]["difference"] == expected.difference
        assert change["after"] - change["before"] == pytest.approx(expected.difference)
        assert change["after_interval"]["share"] == change["after"]
    unchanged = recites(edited, texts, OPTIONS)
    for name, rounding in (("int8", to_int8), ("int4", to_int4), ("bfloat16", to_bfloat16)):
        with rounded_weights(edited, rounding):
            check_weights(found[name][role], unchanged, recites(edited, texts, OPTIONS))
    clean = text_blocks(edited, [row.text for row in TEXTS[CLEAN]], max_tokens=128)
    with fine_tuned(edited, clean, FineTuning(), lambda _: None):
        check_weights(found["fine_tuned"][role], unchanged, recites(edited, texts, OPTIONS))


def check_weights(
    change: dict[str, Any], unchanged: Sequence[bool | None], changed: Sequence[bool | None]
) -> None:
    expected = share_change(zip(unchanged, changed, strict=True))
    assert expected is not None
    assert "before" not in change
    assert change["change"]["difference"] == expected.difference
    assert change["after"] == pytest.approx(sum(flag is True for flag in changed) / expected.n)


@pytest.mark.parametrize("role", [MEMORIZED, UNSEEN, CONTROL])
def test_what_is_held_is_compared_text_by_text_and_beside_the_reference(
    full: Tried, base: LanguageModel, edited: LanguageModel, reference: LanguageModel, role: TextSetRole
) -> None:
    assert full.found.proof is not None
    found = full.found.proof["held"][role]
    before, after, other = (
        list(holdings(model, bare(TEXTS[role]), OPTIONS)) for model in (base, edited, reference)
    )
    for name in ("extraction_strength", "exact_memorization"):
        pairs = [
            (getattr(was, name), getattr(became, name))
            for was, became in zip(before, after, strict=True)
            if was.strict is not None
        ]
        expected = mean_with_interval(Moments.of(became - was for was, became in pairs))
        assert expected is not None
        assert found[name]["change"]["mean"] == pytest.approx(expected.mean, abs=1e-9)
        assert found[name]["before"]["mean"] == pytest.approx(np.mean([was for was, _ in pairs]))
        known = [getattr(each, name) for each in other if each.strict is not None]
        assert found[name]["reference"]["mean"] == pytest.approx(np.mean(known))
    for extractable in found["extractable"]:
        counts = [
            sum(each.n_50 is not None and each.n_50 <= extractable["samples"] for each in held)
            for held in (before, after, other)
        ]
        assert counts == [extractable[when]["count"] for when in ("before", "after", "reference")]
    if role is MEMORIZED:
        assert found["extraction_strength"]["before"]["mean"] == 1.0
        assert found["extraction_strength"]["change"]["mean"] < 0


def test_layers_and_generation_are_those_of_each_model(
    full: Tried, base: LanguageModel, edited: LanguageModel
) -> None:
    assert full.found.proof is not None
    for role in (MEMORIZED, UNSEEN, CONTROL):
        texts = bare(TEXTS[role])
        suffixes = suffixes_of(base, texts, OPTIONS)
        layers = full.found.proof["layers"][role]
        generated = full.found.proof["generated"][role]
        assert [each["layer"] for each in layers] == [1, 2]
        for when, model in (("before", base), ("after", edited)):
            readings = list(LogitLens(model).read(suffixes))
            for place, layer in enumerate(layers):
                expected = np.mean([each.log_likelihood[place] for each in readings])
                assert layer["log_likelihood"][when]["mean"] == pytest.approx(expected)
                expected = np.mean([each.right[place] for each in readings])
                assert layer["right"][when]["mean"] == pytest.approx(expected)
            scores = [score for score in score_texts(model, texts, OPTIONS) if score.error is None]
            # Generation agrees with teacher forcing, and the last layer with both.
            strict = [score.metrics["extraction"]["strict"] for score in scores]
            assert generated["exact"][when]["count"] == sum(map(bool, strict))
            similar = [cast("float", score.metrics["extraction"]["similarity"]) for score in scores]
            assert generated["similarity"][when]["mean"] == pytest.approx(np.mean(similar))
            assert full.found.proof["held"][role]["exact_memorization"][when]["mean"] == pytest.approx(
                layers[-1]["right"][when]["mean"], abs=1e-9
            )


def test_curves_begin_with_the_model_as_it_is_and_test_what_is_not_shown(
    full: Tried, edited: LanguageModel, reference: LanguageModel
) -> None:
    assert full.found.proof is not None
    curves = full.found.proof["relearning"]
    assert [(curve["model"], curve["trained_on"]) for curve in curves] == [
        ("edited", "clean"),
        ("edited", "shown"),
        ("reference", "clean"),
        ("reference", "shown"),
    ]
    shown = shown_again(5, seed=0)
    memorized = bare(TEXTS[MEMORIZED])
    rest = [text for place, text in enumerate(memorized) if place not in shown]
    for curve in curves:
        model = edited if curve["model"] == "edited" else reference
        tested = {"memorized": memorized, "unseen": bare(TEXTS[UNSEEN]), "control": bare(TEXTS[CONTROL])}
        rows = [row.text for row in TEXTS[CLEAN]]
        if curve["trained_on"] == "shown":
            tested |= {"memorized": rest, "shown": [memorized[place] for place in shown]}
            rows = [memorized[place].text for place in shown]
        assert [point["step"] for point in curve["points"]] == [0, 1, 3]
        start = {name: recites(model, texts, OPTIONS) for name, texts in tested.items()}
        blocks = text_blocks(model, rows, max_tokens=128)
        with fine_tuned(model, blocks, FineTuning(steps=3), lambda _: None):
            end = {name: recites(model, texts, OPTIONS) for name, texts in tested.items()}
        for name in tested:
            first, last = curve["points"][0]["strict"][name], curve["points"][-1]["strict"][name]
            assert first == {"share": counted(start[name]), "change": None}
            expected = share_change(zip(start[name], end[name], strict=True))
            assert expected is not None
            assert last["share"] == counted(end[name])
            assert last["change"]["difference"] == expected.difference


def counted(flags: Sequence[bool | None]) -> dict[str, Any]:
    known = [flag for flag in flags if flag is not None]
    share = share_with_interval(sum(known), len(known))
    assert share is not None
    return asdict(share)


def test_without_stress_membership_is_by_loss_alone_and_nothing_else_is_tried(
    base: LanguageModel, edited: LanguageModel, tmp_path: Path
) -> None:
    inputs = inputs_with(TEXTS, **SPLIT)
    found, readings, progress = tried(tmp_path, inputs, base, edited)
    assert (found.stress, found.proof, found.reference, progress.stages) == (None, None, None, [])
    assert found.membership is not None
    assert {role: tuple(by_score) for role, by_score in found.membership.items()} == {
        "memorized": LOSS,
        "unseen": LOSS,
    }
    loss = found.membership["memorized"]["loss"]
    for when, read in zip(("before", "after"), readings, strict=True):
        nls = {
            role: [score.nl for _, score in read.sets[role].rows if score.nl is not None]
            for role in (MEMORIZED, CONTROL)
        }
        expected = roc_auc(nls[MEMORIZED], nls[CONTROL])
        assert expected is not None
        assert loss[when]["auc"] == expected.auc
    assert loss["change"]["mean"] == pytest.approx(loss["after"]["auc"] - loss["before"]["auc"])
    assert loss["reference"] is None


def test_without_control_or_clean_text_what_they_tell_is_left_out(
    base: LanguageModel, tmp_path: Path
) -> None:
    inputs = inputs_with({MEMORIZED: TEXTS[MEMORIZED][:1]}, stress="full", **SPLIT)
    found = tried(tmp_path, inputs, base, base).found
    assert found.membership is None
    assert found.proof is not None
    assert "fine_tuned" not in (found.stress or {})
    assert found.proof["relearning"] == []
    ProofOut.model_validate(found.proof)
    part = inputs_with(TEXTS, stress=True, **SPLIT)
    directory = tmp_path / "part"
    directory.mkdir()
    some = tried(directory, part, base, base)
    assert some.progress.stages == ["stressing"]
    assert some.found.proof is not None
    assert [some.found.proof[name] for name in ("layers", "generated", "relearning")] == [None] * 3
    for change in some.found.proof["held"]["memorized"].values():
        if isinstance(change, dict):
            assert change["before"] == change["after"]


def measured(member: float, control: float, reference: float | None = None) -> dict[str, Any]:
    """Losses of 40 members around one number and of 40 others around another; 1 is what both vary by."""
    random, found = np.random.default_rng(5), Membership(LOSS)
    for role, mean in ((MEMORIZED, member), (CONTROL, control)):
        for number in random.normal(mean, 1, 40):
            found.add(role, {"loss": number + 3 * (role is MEMORIZED)}, {"loss": number})
    if reference is not None:
        for role, mean in ((MEMORIZED, reference), (CONTROL, control)):
            for number in random.normal(mean, 1, 40):
                found.add_reference(role, {"loss": number})
    result = found.result()
    assert result is not None
    return result


def judged(membership: dict[str, Any], **limits: float) -> tuple[str | None, dict[str, str]]:
    found = verdict(Limits(**limits), {}, None, None, membership)
    return found["outcome"], {check["name"]: check["outcome"] for check in found["checks"]}


def test_a_model_that_avoids_texts_fails_without_any_limit_beside_a_reference() -> None:
    avoiding = measured(-1.5, 0.0)
    assert avoiding["memorized"]["loss"]["over_forgotten"]
    assert avoiding["memorized"]["loss"]["after"]["high"] < 0.5
    # Alone it is shown: texts may be unlikely to a model that never saw them, and nothing tells here.
    assert judged(avoiding) == (None, {})
    beside = measured(-1.5, 0.0, reference=0.0)
    assert beside["memorized"]["loss"]["over_forgotten"]
    assert judged(beside) == ("fail", {"min_membership_auc:memorized": "fail"})
    for membership in (measured(0.0, 0.0), measured(1.5, 0.0)):
        assert not membership["memorized"]["loss"]["over_forgotten"]
        assert judged(membership) == (None, {})


def test_texts_that_the_reference_finds_as_unlikely_are_not_avoided() -> None:
    alike = measured(-1.5, 0.0, reference=-1.5)
    assert alike["memorized"]["loss"]["reference"]["high"] < 0.5
    assert judged(alike) == (None, {})
    assert judged(measured(-3.0, 0.0, reference=-0.7)) == ("fail", {"min_membership_auc:memorized": "fail"})


def test_a_limit_on_the_distance_from_chance_has_two_sides() -> None:
    both = ("min_membership_auc:memorized", "max_membership_auc:memorized")
    assert judged(measured(-1.5, 0.0), max_auc_distance=0.1) == (
        "fail",
        dict(zip(both, ("fail", "pass"), strict=True)),
    )
    assert judged(measured(1.5, 0.0), max_auc_distance=0.1) == (
        "fail",
        dict(zip(both, ("pass", "fail"), strict=True)),
    )
    assert judged(measured(0.0, 0.0), max_auc_distance=0.3) == ("pass", dict.fromkeys(both, "pass"))
    assert judged(measured(0.0, 0.0), max_auc_distance=0.01)[0] == "inconclusive"
    nothing = verdict(Limits(max_auc_distance=0.1), {}, None, None, None)
    assert [(check["name"], check["outcome"]) for check in nothing["checks"]] == [
        (name, "inconclusive") for name in both
    ]
    decided = [EvaluationOut.model_fields["verdict"].annotation.model_validate(nothing)]
    assert [check.decide() for check in decided[0].checks] == ["inconclusive"] * 2


def test_what_one_model_could_not_score_counts_for_neither() -> None:
    found = Membership(LOSS)
    for _ in range(3):
        found.add(MEMORIZED, {"loss": -1.0}, None)
    found.add(CONTROL, {"loss": -1.0}, {"loss": -2.0})
    assert found.result() is None
    read = Readings({}, None, {}, [])
    assert membership_of_readings(read, read).result() is None
