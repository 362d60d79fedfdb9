"""A status says whose failure it is: 4xx for what was given, 5xx for the service and what it stands on."""

from collections.abc import Iterator

import pytest

from app import errors
from app.errors import JobFailed

OF_WHAT_WAS_GIVEN = {
    errors.LanguageModelRejected: 422,
    errors.LanguageModelChanged: 409,
    errors.ScoringFailed: 422,
    errors.EditFailed: 422,
    errors.NoFeasibleSetting: 422,
    errors.NoSuchPrefixToken: 422,
    errors.CompanionFailed: 424,
    errors.SubjectFailed: 424,
    errors.VersionIncomplete: 424,
    errors.ArtifactNameTaken: 409,
    errors.ImportFailed: 422,
    errors.TokenizingFailed: 422,
    errors.ReferenceIsSame: 422,
}


def failures(kind: type[JobFailed] = JobFailed) -> Iterator[type[JobFailed]]:
    for one in kind.__subclasses__():
        yield one
        yield from failures(one)


@pytest.mark.parametrize("failure", list(failures()))
def test_the_status_of_a_failed_job_says_whose_failure_it_is(failure: type[JobFailed]) -> None:
    if failure in OF_WHAT_WAS_GIVEN:
        assert failure.status == OF_WHAT_WAS_GIVEN[failure]
    else:
        assert failure.status >= 500
