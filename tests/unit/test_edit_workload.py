"""What an edit is said to take. Oracles: sums by hand."""

import pytest

from app.contracts.audits import AuditOptions
from app.contracts.edit_workload import SAMPLED_TEXTS, Dimensions, collected_tokens, edit_bytes, edit_tokens
from app.contracts.edits import EditSpec
from app.contracts.texts import TextSetRole
from app.contracts.workload import Texts, audit_tokens
from workers.edits.stress import PASSES
from workers.science.evaluation.relearning import STEPS
from workers.science.evaluation.stress import FineTuning

CALIBRATION, CLEAN, RETAIN = Texts(10, 1000.0), Texts(5, 500.0), Texts(4, 400.0)
SETS = {TextSetRole.CALIBRATION: CALIBRATION, TextSetRole.CLEAN: CLEAN}
RETAINED = SETS | {TextSetRole.RETAIN: RETAIN}
# Clean text is scored under both models, and its rankings are found.
PROOF = 2 * 2 * 500
# A pass forwards and one backwards that is as long as two.
COLLECTED = 3 * 1000


def kfac(**fields: object) -> EditSpec:
    return EditSpec.model_validate({"method": "kfac", **fields})


def test_a_mass_that_is_adapted_costs_a_pass_over_clean_text_for_each_that_is_tried() -> None:
    assert edit_tokens(kfac(keep_mass=0.6), SETS) == COLLECTED + PROOF
    assert edit_tokens(kfac(), SETS) == COLLECTED + PROOF + 8 * 500
    sweep = {"layers": [[0], [1], [2]]}
    assert edit_tokens(kfac(sweep=sweep), SETS) == COLLECTED + PROOF + 3 * 8 * 500
    assert edit_tokens(kfac(layers="auto"), SETS) == COLLECTED + PROOF + 24 * 500


def test_a_retain_set_is_collected_and_proved_and_measured_by_each_setting() -> None:
    proved = 2 * audit_tokens(["extraction"], AuditOptions(), RETAIN)
    assert proved > 0
    fields = {"retain_weight": 0.1, "keep_mass": 0.6}
    assert edit_tokens(kfac(**fields), RETAINED) == COLLECTED + 3 * 400 + PROOF + proved
    few = kfac(**fields, calibration_tokens=100)
    assert edit_tokens(few, RETAINED) == 3 * 100 + 3 * 100 + PROOF + proved
    sweep = {"retain_weight": [0, 0.1], "keep_mass": [0.6, 0.7, 0.8]}
    tried = 6 * (500 + 400)
    assert edit_tokens(kfac(sweep=sweep), RETAINED) == COLLECTED + 3 * 400 + PROOF + proved + tried
    # Jobs of their own collect the calibration set alone.
    assert collected_tokens(kfac(**fields), RETAINED) == COLLECTED


def test_each_step_of_recovery_trains_on_rows_of_both_sets() -> None:
    """Passes backwards are as long as two, and the base is asked too. A row is a text, or a block of it."""
    step = 8 * (3 * 64 + (3 + 1) * 64)
    fields = {"retain_weight": 0.1, "keep_mass": 0.6, "block_tokens": 64}
    plain = edit_tokens(kfac(**fields), RETAINED)
    assert edit_tokens(kfac(**fields, recovery={"steps": 10}), RETAINED) == plain + 10 * step
    sweep = {"keep_mass": [0.6, 0.7, 0.8]}
    swept = edit_tokens(kfac(**fields, sweep=sweep), RETAINED)
    both = {"sweep": sweep, "recovery": {"steps": 10}}
    assert edit_tokens(kfac(**fields, **both), RETAINED) == pytest.approx(swept + 3 * 10 * step)
    steps = {"sweep": {"keep_mass": [0.6], "recovery_steps": [0, 20, 40]}}
    assert edit_tokens(kfac(**fields, **steps), RETAINED) == pytest.approx(swept + (0 + 20 + 40) * step)
    whole = {"retain_weight": 0.1, "keep_mass": 0.6}
    plain = edit_tokens(kfac(**whole), RETAINED)
    step = 8 * (3 * 100 + 4 * 100)
    assert edit_tokens(kfac(**whole, recovery={"steps": 10}), RETAINED) == plain + 10 * step


def test_a_retain_set_takes_its_own_factors_and_the_mixture() -> None:
    dimensions = Dimensions(hidden=8, intermediate=16, layers=1)
    # Inputs that gate and up share, and the outputs of each, in float32: three times without, five with.
    factors = 4 * (8**2 + 2 * 16**2)
    assert edit_bytes(kfac(), dimensions) == 3 * factors
    assert edit_bytes(kfac(retain_weight=0.1), dimensions) == 5 * factors


def test_recovery_holds_what_it_trains() -> None:
    """Beside a matrix in float32 what is trained of it, and with all directions what Adam keeps too."""
    dimensions, matrices = Dimensions(hidden=8, intermediate=16, layers=1), 4 * 2 * 8 * 16
    without = edit_bytes(kfac(retain_weight=0.1), dimensions)
    few, everywhere = (
        edit_bytes(kfac(retain_weight=0.1, recovery={"rank": rank}), dimensions) for rank in (16, None)
    )
    assert few == without + 4 * matrices
    assert everywhere == without + 8 * matrices


@pytest.mark.parametrize("method", ["svd", "balanced_subnet"])
def test_methods_without_curvature_collect_nothing(method: str) -> None:
    assert collected_tokens(EditSpec(method=method), SETS) == 0


@pytest.mark.parametrize("reference", [None, "mdl_01a2187a5e0d7570a84c71a3f3c82ef5"])
def test_what_a_proof_is_said_to_take_is_what_it_goes_through(reference: str | None) -> None:
    """Oracle: the numbers of prompts, roundings, points and steps that the worker itself has."""
    memorized = Texts(512, 40_000.0)
    sets = SETS | {TextSetRole.MEMORIZED: memorized}

    def extra(stress: object) -> float:
        asked = {"stress": stress, "reference_model": reference}
        plain = edit_tokens(kfac(keep_mass=0.6), sets)
        return edit_tokens(kfac(keep_mass=0.6, evaluation=asked), sets) - plain

    compared = reference is not None
    held = compared * memorized.tokens
    assert extra(stress=False) == held
    # Beside changes, what both models hold.
    stressed = (PASSES + 2) * memorized.tokens
    assert extra(stress=True) == held + stressed
    sampled = memorized.tokens * SAMPLED_TEXTS / memorized.count
    layers, generated, curves = 2 * 3, 2, 2
    points = (1 + compared) * curves * (1 + len(STEPS)) * sampled
    rows = (1 + compared) * curves * STEPS[-1] * FineTuning().batch_blocks
    trained = 3 * rows * (64 + 48)
    assert extra(stress="full") == held + stressed + (layers + generated) * sampled + points + trained
