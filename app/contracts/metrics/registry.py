"""All metrics: what is listed here is requested, scored, listed, exported and summed up."""

from typing import Final

from app.contracts.metrics.extraction import EXTRACTION
from app.contracts.metrics.metric import Metric
from app.contracts.metrics.near_verbatim import NEAR_VERBATIM
from app.contracts.metrics.sampling import SAMPLING
from app.contracts.metrics.verbatim import VERBATIM
from app.contracts.metrics.windows import WINDOWS

# The order is that of the fields of scores, summaries and exports.
METRICS: Final[dict[str, Metric]] = {
    metric.name: metric for metric in (EXTRACTION, VERBATIM, SAMPLING, NEAR_VERBATIM, WINDOWS)
}
