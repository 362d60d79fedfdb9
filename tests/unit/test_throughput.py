"""The line through measured jobs. Oracles: numpy's weighted least squares, and jobs whose line is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts.audits import AuditOptions, AuditSpec
from app.contracts.edit_workload import Dimensions, collected_tokens, edit_bytes, edit_tokens
from app.contracts.edits import EditSpec
from app.contracts.texts import TextSetRole
from app.contracts.throughput import JobSums, Line
from app.contracts.workload import Texts, audit_tokens, what_is_measured
from app.store.language_models import LanguageModel
from workers.running.throughput import Meter

Jobs = list[tuple[float, float]]


def sums(jobs: Jobs) -> JobSums:
    return sum((JobSums.of(*job) for job in jobs), start=JobSums())


def test_jobs_on_a_line_give_it_back() -> None:
    jobs = [(units, 0.3 + 0.002 * units) for units in (10.0, 100.0, 5000.0)]
    line = sums(jobs).line()
    assert (line.per_job, line.per_unit) == pytest.approx((0.3, 0.002), rel=1e-9)
    assert line.seconds(2, 700) == pytest.approx(2 * 0.3 + 700 * 0.002)


def test_the_line_is_that_of_weighted_least_squares() -> None:
    """`numpy.polyfit` minimises Σ(w·residual)²: its weight is the root of ours."""
    generator = np.random.default_rng(0)
    units = generator.uniform(100, 60_000, 40)
    seconds = 2 + units * 1e-3 * generator.uniform(0.9, 1.1, 40)
    line = sums(list(zip(units.tolist(), seconds.tolist(), strict=True))).line()
    per_unit, per_job = np.polyfit(units, seconds, 1, w=units**-0.5)
    assert (line.per_job, line.per_unit) == pytest.approx((per_job, per_unit), rel=1e-6)


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1e-3, 1e3)), min_size=1, max_size=20))
def test_no_cost_is_negative_whatever_was_measured(jobs: Jobs) -> None:
    line = sums(jobs).line()
    assert line.per_job >= 0
    assert line.per_unit >= 0


@pytest.mark.parametrize(
    ("jobs", "line"),
    [
        ([(100.0, 5.0)], Line(0.0, 0.05)),
        ([(100.0, 5.0), (101.0, 9.0)], Line(0.0, 14 / 201)),  # no spread
        (
            [(100.0, 1.0), (1000.0, 20.0)],
            Line(0.0, 21 / 1100),
        ),  # a job by itself would cost less than nothing
        ([(100.0, 5.0), (1000.0, 4.0)], Line((0.05 + 0.004) / (0.01 + 0.001), 0.0)),
        ([(0.0, 3.0), (0.0, 5.0)], Line(0.0, 4.0)),  # of no size: each takes the mean
    ],
)
def test_where_the_line_is_bound(jobs: Jobs, line: Line) -> None:
    found = sums(jobs).line()
    assert (found.per_job, found.per_unit) == pytest.approx((line.per_job, line.per_unit))


def test_nothing_measured_has_no_line() -> None:
    with pytest.raises(ValueError, match="no job"):
        JobSums().line()


def test_smaller_units_cost_less_each() -> None:
    jobs = sums([(10.0, 1.0), (50.0, 3.0)])
    coarse, fine = jobs.line(), jobs.in_units_of(1000).line()
    assert (fine.per_job, fine.per_unit * 1000) == pytest.approx((coarse.per_job, coarse.per_unit))


def test_loading_is_measured_apart() -> None:
    times = iter([0.0, 10.0, 12.0, 14.0, 19.0, 20.0])
    meter = Meter(lambda: next(times))
    meter.begin()
    with meter.loading(_language_model()):
        pass
    meter.note(40.0, "nl", _language_model())
    job, loading = meter.read("score_shard")
    assert (job.kind, job.seconds, job.units, job.measured) == ("score_shard", 7.0, 40.0, "nl")
    assert (loading.kind, loading.seconds, loading.language_model_digest) == ("load_language_model", 2.0, "d")


def test_what_is_measured_names_what_costs() -> None:
    def named(metrics: str, **options: object) -> str:
        return what_is_measured(AuditSpec.model_validate({"metrics": metrics.split(), "options": options}))

    assert named("nl extraction") == named("extraction nl", temperature=2.0)
    assert named("nl extraction") != named("nl extraction", suffix_tokens=5)
    assert named("nl") == named("nl", suffix_tokens=5)
    assert named("nl") != named("nl", dtype="bfloat16")
    assert named("near_verbatim") != named("near_verbatim", near_verbatim={"beams": 4})


@pytest.mark.parametrize(
    ("metrics", "tokens"),
    [
        (["nl", "membership", "verbatim", "p_z"], 2000.0),
        (["extraction"], 2000 + 4 * 10 * 48.0),
        (["windows"], 4000.0),
        (["near_verbatim"], 2000 + 4 * 32 * 10 * 48.0),
    ],
)
def test_tokens_of_an_audit(metrics: list[str], tokens: float) -> None:
    """Ten texts of 200 tokens: longer than the 64 and 48 of a split."""
    assert audit_tokens(metrics, AuditOptions(), Texts(10, 2000.0)) == tokens


def test_short_texts_have_scaled_suffixes() -> None:
    assert audit_tokens(["extraction"], AuditOptions(), Texts(10, 112.0)) == 112 + 4 * 48


def test_an_edit_counts_its_method_and_its_proof() -> None:
    spec = EditSpec.model_validate({"method": "kfac", "calibration_tokens": 500})
    texts = {TextSetRole.CALIBRATION: Texts(9, 900.0), TextSetRole.CLEAN: Texts(5, 100.0)}
    # A mass that is not given is looked for: clean text is measured with up to eight of them.
    assert edit_tokens(spec, texts) == 3 * 500 + 8 * 100 + 2 * 2 * 100
    given = spec.model_copy(update={"keep_mass": 0.6})
    assert edit_tokens(given, texts) == 3 * 500 + 2 * 2 * 100
    searched = spec.model_copy(update={"layers": "auto"})
    texts[TextSetRole.FORGET] = Texts(1, 200.0)
    assert edit_tokens(searched, texts) == 3 * 500 + 24 * (100 + 200 + 4 * 48) + 2 * 2 * 100
    assert edit_tokens(EditSpec(method="svd"), {}) == 0
    assert collected_tokens(searched, texts) == 3 * 500
    assert collected_tokens(EditSpec(method="balanced_subnet"), texts) == 0


@pytest.mark.parametrize(
    ("edit", "held"),
    [
        # Of two layers gate and up [12, 8]: one A [8, 8] a layer, and two G [12, 12], with eigenvectors.
        ({"method": "kfac", "layers": [0, 1]}, 3 * 4 * 2 * (64 + 2 * 144)),
        ({"method": "kfac", "layers": [0], "projections": ["down"]}, 3 * 4 * (144 + 64)),
        ({"method": "kfac", "layers": "auto"}, 3 * 4 * 4 * (64 + 2 * 144)),
        ({"method": "kfac"}, 3 * 4 * 1 * (64 + 2 * 144)),  # 23 to 25 of 32 is the last of four
        ({"method": "balanced_subnet", "layers": [2]}, 3 * 4 * 2 * 96),
        ({"method": "svd"}, 0),
    ],
)
def test_what_an_edit_holds_beside_the_weights(edit: dict[str, object], held: int) -> None:
    assert edit_bytes(EditSpec.model_validate(edit), Dimensions(hidden=8, intermediate=12, layers=4)) == held


def _language_model() -> LanguageModel:
    return LanguageModel(digest="d", parameter_count=7)
