"""How numbers of a report were computed, in words and formulas, with the papers: only what was used."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from app.contracts.audits import AuditOptions
from app.contracts.edit_methods.kfac import KFACReceipt
from app.contracts.edits import EditSpec
from app.contracts.metrics.registry import METRICS
from app.edits.schemas import EditOut
from app.evidence.record import EvidenceRecord
from app.evidence.report.document import Block, Formula, Heading, Paragraph
from app.evidence.report.numbers import exact_percent
from app.studies.schemas import StudyOut


@dataclass(frozen=True, slots=True)
class Method:
    """How one number is computed.

    Attributes:
        title: what it is.
        text: in words, as the record used it.
        source: papers; None where the text names them.
        formulas: the same as formulas.
    """

    title: str
    text: str
    source: str | None = None
    formulas: tuple[Formula, ...] = ()


_NL: Final = Formula(
    math='"NL"(x) = 1/n sum_(i=1)^n log p(x_i | x_(<i))',
    words="NL of x is the mean over its n tokens of the log probability of each given those before it",
)
_STRICT: Final = Formula(
    math='"strict"(z) = 1 quad "if" quad z_t = op("argmax", limits: #true)_v p(v | z_(<t)) '
    '"for each" t = 1, ..., L; quad "else" 0',
    words="a suffix z is recited if each of its L tokens is the likeliest one given those before it",
)
_SIMILARITY: Final = Formula(
    math='"similarity"(z, hat(z)) = 1 - "Levenshtein"(z, hat(z)) / L',
    words="similarity is one less the Levenshtein distance in tokens over the length of the suffix",
)
_P_Z: Final = Formula(
    math="p_z = product_(t=1)^L p(z_t | z_(<t))",
    words="p_z is the product of the probabilities of the suffix's tokens under the client's decoding",
)
_EXTRACTABLE: Final = Formula(
    math="1 - (1 - p_z)^n >= p",
    words="a text is (n, p)-extractable if at least one of n samples recites it with probability p or more",
)
_CONFORMAL: Final = Formula(
    math="p(x) = (1 + |{c : s(c) >= s(x)}|) / (m + 1)",
    words="the p-value of x is one more than the controls c at or above it, over one more than all m",
)
_BENJAMINI_HOCHBERG: Final = Formula(
    math="q_((i)) = min_(j >= i) (k p_((j))) / j",
    words="the q-value of the i-th least of k p-values is the least, over places j from i on, of k times the "
    "j-th p-value over j",
)
_ISOTONIC: Final = Formula(
    math='hat(f) = op("argmin", limits: #true)_(f(d) <= f(d\') "for" d < d\') '
    "sum_d n_d (macron(y)_d - f(d))^2",
    words="the fit is the function nearest to the means that never falls, weighted by numbers of texts",
)
_FACTORS: Final = Formula(
    math='A = EE[a a^top], quad G = EE[g g^top], quad A = U_A "diag"(mu) U_A^top, quad G = U_G "diag"(lambda)'
    " U_G^top",
    words="A and G are the second moments of a projection's inputs and of its output gradients, decomposed",
)
_PROJECTED: Final = Formula(
    math="C = U_G^top W U_A, quad W' = U_G (C dot.o M) U_A^top, quad M_(i j) = 1 "
    '"for the largest" lambda_i mu_j',
    words="the weights are turned into the eigenbases, all but the pairs of most curvature are "
    "dropped, and they are turned back",
)
_BALANCED: Final = Formula(
    math='cal(L) = -(1 - w) cal(L)_"forget" + w cal(L)_"retain"',
    words="the loss is w times that of the retained texts less 1 - w times that of the texts to forget",
)
_TRUNCATED: Final = Formula(
    math="W' = sum_(i=1)^r sigma_i u_i v_i^top",
    words="the weights are the sum over their r largest singular values",
)
_PERPLEXITY: Final = Formula(
    math='"perplexity" = exp(-(sum_x log p(x)) / (sum_x n_x))',
    words="perplexity is the exponential of the total negative log-likelihood over the total of tokens",
)
_MC_NEMAR: Final = Formula(
    math='p = min(1, 2 PP[B <= min(b, c)]), quad B tilde.op "Binomial"(b + c, 1/2)',
    words="McNemar's p-value is twice the binomial probability of so few changes of the rarer kind",
)


def _likelihood(options: AuditOptions) -> Method:
    return Method(
        "Likelihood (NL)",
        "Each text is tokenized without added special tokens, and the mean log-likelihood of its tokens "
        "is taken, in nats per token: at most 0, and higher is more strongly memorized. What stands "
        f"before a text (prefix token) was asked for as \u201c{options.prefix_token}\u201d. Texts longer "
        "than the context are scored in disjoint windows, each token once. Weights were in "
        f"{options.dtype}, the softmax in float32.",
        "Hubble, arXiv 2510.19811",
        (_NL,),
    )


def _extraction(options: AuditOptions) -> Method:
    return Method(
        "Extraction",
        f"After {options.prefix_tokens} tokens of a text, greedy decoding is compared with the next "
        f"{options.suffix_tokens}. \u201cStrict\u201d is an exact suffix, \u201cloose\u201d a similarity "
        "of at least 0.75. Shorter texts are split in proportion, or counted as not applicable.",
        "Carlini et al., arXiv 2202.07646; Merullo et al., arXiv 2510.24256",
        (_STRICT, _SIMILARITY),
    )


def _verbatim(options: AuditOptions) -> Method:
    del options
    return Method(
        "Recitation after fixed prefixes",
        "After the first 25, 50, 75 and 100 tokens of a text, greedy decoding is compared with the next 50, "
        "or with all that follow.",
        "Hubble, arXiv 2510.19811",
        (_STRICT,),
    )


def _sampling(options: AuditOptions) -> Method:
    return Method(
        "Probability of regurgitation (p_z)",
        f"The probability that one sample at temperature {options.temperature:g} among the {options.top_k} "
        "likeliest tokens recites the whole suffix, computed from logarithms; from it follows how many "
        "samples bring the suffix up with a given probability.",
        "Hayes et al., arXiv 2410.19482",
        (_P_Z, _EXTRACTABLE),
    )


def _membership(options: AuditOptions) -> Method:
    return Method(
        "Membership",
        "Scores that are higher for texts more likely trained on: the loss itself, the loss over the "
        f"compressed size (zlib), the mean over the {exact_percent(options.min_k)} least likely tokens "
        "(Min-K%), the same of tokens standardized over the vocabulary (Min-K%++), and the difference from a "
        "reference model where there is one. Where texts are labelled, the ROC AUC is the probability that "
        "a member scores higher than another.",
        "arXiv 1709.01604, 2012.07805, 2310.16789, 2404.02936, 2406.15968",
    )


_METRICS: Final[dict[str, Callable[[AuditOptions], Method]]] = {
    "extraction": _extraction,
    "verbatim": _verbatim,
    "p_z": _sampling,
    "membership": _membership,
}


def _other_metric(name: str) -> Method:
    """A metric without an account of its own: what the API says of it."""
    score = METRICS[name].score
    told = (score.__doc__ or "") if isinstance(score, type) else METRICS[name].description
    return Method(name.replace("_", " "), " ".join(told.replace("`", "").split()))


def _calibration(options: AuditOptions, *, referenced: bool) -> Method:
    compared = "NL less NL under the reference model" if referenced else "NL"
    return Method(
        "Comparison with control texts",
        f"Each text's {compared} is ranked among control texts that the model never saw, which gives a "
        "conformal p-value; q-values are Benjamini and Hochberg's, and a text is called memorized at a "
        f"false discovery rate of {options.fdr:g}. A classifier that sees only the texts must not tell "
        "them from the controls; where it does, texts are compared within strata, or not judged at all.",
        "Vovk, Gammerman and Shafer 2005; Benjamini and Hochberg 1995; arXiv 2406.16201",
        (_CONFORMAL, _BENJAMINI_HOCHBERG),
    )


def _dose() -> Method:
    return Method(
        "Dose and response",
        "Means and shares by known insertions, each with its interval. The fit of mean NL is monotone, "
        "weighted by texts, and interpolated over log(1 + insertions).",
        "Barlow, Bartholomew, Bremner and Brunk 1972",
        (_ISOTONIC,),
    )


def _intervals() -> Method:
    return Method(
        "Intervals",
        "All are for 95 %. Those of shares are Blaker's exact ones, those of means Student's or, where "
        "skewness makes it longer, Hall's; those of an AUC DeLong's on the logit scale. A mean has none "
        "where fewer than two numbers are known or all are equal.",
        "Blaker 2000; Hall 1992; DeLong, DeLong and Clarke-Pearson 1988",
    )


def _study() -> Method:
    return Method(
        "Comparison of language models",
        "Texts are compared one by one under both models: the difference is NL under the later less NL "
        "under the earlier, and the excess is that less the difference of the group's texts never "
        "inserted. Whether one recites more texts is McNemar's exact test. A half-life is read from the "
        "curve, with Fieller's interval.",
        "McNemar 1947; Fieller 1954",
        (_MC_NEMAR,),
    )


def _release() -> Method:
    return Method(
        "Newly memorized texts",
        "Each text's change from one version to the next is ranked among those of control texts that no "
        "version saw more often, once upwards and once downwards.",
        "Vovk, Gammerman and Shafer 2005; Benjamini and Hochberg 1995",
        (_CONFORMAL, _BENJAMINI_HOCHBERG),
    )


_RETAINED: Final = (
    " The second moments are weighted means of those over the calibration text and those over texts to be "
    "retained; the receipt says with which weight."
)


def _kfac(spec: EditSpec) -> Method:
    return Method(
        "K-FAC edit",
        "For each edited projection, second moments of inputs and output gradients are collected over "
        f"calibration text with {spec.labels} labels; the pairs of eigenvectors with the largest product "
        "of eigenvalues are kept until they hold the asked share of the curvature mass, and all others "
        "are dropped." + ("" if spec.retain_weight is None else _RETAINED),
        "Merullo et al., arXiv 2510.24256",
        (_FACTORS, _PROJECTED),
    )


def _recovery() -> Method:
    return Method(
        "Recovery",
        "The edited matrices are trained for some steps by Adam, on texts to be retained and on the "
        "divergence of the edited model's predictions from the base's over calibration text; the receipt "
        "says how long, and in how many directions of each matrix's inputs.",
        "Hinton et al., arXiv 1503.02531",
        (),
    )


def _balanced_subnet(spec: EditSpec) -> Method:
    return Method(
        "BalancedSubnet edit",
        "Scores on weights are learnt by gradient descent through a mask of the lowest "
        f"{spec.balanced_subnet.ratio:.2%}, with w = {spec.balanced_subnet.loss_weight:g}; those weights "
        "are zero in the edited model.",
        "Sakarvadia et al., arXiv 2410.02159",
        (_BALANCED,),
    )


def _svd(spec: EditSpec) -> Method:
    del spec
    return Method(
        "Truncated SVD",
        "Each edited matrix keeps its largest singular values: a baseline that knows nothing of the data.",
        "as in arXiv 2510.24256",
        (_TRUNCATED,),
    )


_EDITS: Final[dict[str, Callable[[EditSpec], Method]]] = {
    "kfac": _kfac,
    "balanced_subnet": _balanced_subnet,
    "svd": _svd,
}


def _utility() -> Method:
    return Method(
        "Utility",
        "Perplexity on clean text, whose increase is estimated text by text, and nDCG@10 of the edited "
        "model's next tokens against the base's. A limit is kept only if the whole interval keeps it, and "
        "broken only if the whole interval breaks it.",
        "arXiv 2510.24256",
        (_PERPLEXITY,),
    )


def _proved(edit: EditOut) -> Iterator[Method]:
    yield _utility()
    if edit.evaluation is None or not (edit.evaluation.membership or edit.evaluation.proof):
        return
    yield Method(
        "What is still held",
        "Extraction strength is one less the share of the suffix that has to be given until greedy decoding "
        "says the rest; exact memorization is the share of its tokens that are the likeliest one after the "
        "true ones before them. A change is that of the same texts: of shares with Newcombe's tenth "
        "interval, of an AUC with DeLong's covariance. An AUC clearly below 0.5 is that of a model which "
        "avoids texts.",
        "arXiv 2406.09179; arXiv 2205.10770; Newcombe 1998; DeLong, DeLong and Clarke-Pearson 1988",
    )


def methods_used(record: EvidenceRecord) -> Iterator[Block]:
    """The methods behind the numbers of a record."""
    for method in _used(record):
        yield Heading(method.title)
        yield Paragraph(method.text)
        yield from method.formulas
        if method.source is not None:
            yield Paragraph(f"Source: {method.source}.")


def _edited(edit: EditOut) -> Iterator[Method]:
    if edit.method in _EDITS:
        yield _EDITS[edit.method](EditSpec.model_validate({**edit.spec, "method": edit.method}))
    if isinstance(edit.receipt, KFACReceipt) and edit.receipt.parameters.recovery_steps:
        yield _recovery()


def _used(record: EvidenceRecord) -> Iterator[Method]:
    options = record.audits[0].resource.options
    measured = {name for audit in record.principal_audits for name in audit.resource.metrics}
    work = record.work
    if isinstance(work, EditOut):
        yield from _edited(work)
    yield _likelihood(options)
    for name in METRICS:
        if name in measured:
            yield _METRICS[name](options) if name in _METRICS else _other_metric(name)
    summaries = [audit.resource.summary for audit in record.principal_audits]
    if any(summary is not None and summary.calibration is not None for summary in summaries):
        referenced = any(
            summary is not None
            and summary.calibration is not None
            and summary.calibration.statistic == "reference"
            for summary in summaries
        )
        yield _calibration(options, referenced=referenced)
    dosed = any(summary is not None and len(summary.dose_response) > 1 for summary in summaries)
    if dosed and not isinstance(work, EditOut):
        yield _dose()
    if isinstance(work, StudyOut):
        yield _study()
        if any(change.verdict == "calibrated" for change in (work.result and work.result.changes) or ()):
            yield _release()
    if isinstance(work, EditOut):
        yield from _proved(work)
    yield _intervals()
