"""What the demo prints: dose-response beside the standard model, and the tokens of a memorized passage."""

from collections.abc import Iterator
from math import exp
from typing import Final

from rich.table import Table
from rich.text import Text

from app.cli.intervals import mean_cell, share_cell
from memaudit.types import AuditSummary, Score, Token, TokenEvidence

# Background of a token by its probability under the model, from unlikely to certain.
_HEAT: Final = ("grey15", "rgb(70,40,20)", "rgb(130,60,20)", "rgb(190,80,20)", "rgb(230,60,40)")


def dose_response_table(summaries: dict[str, AuditSummary]) -> Table:
    """Mean NL and the share recited strictly, by known number of duplicates, for one model after another."""
    table = Table(title="Mean NL in nats per token, strict share [95 % intervals]")
    table.add_column("model")
    for heading in ("dup.", "n", "NL", "strict"):
        table.add_column(heading, justify="right")
    for name, summary in summaries.items():
        for level in summary.dose_response:
            cells = (mean_cell(level.nl), share_cell(level.strict))
            table.add_row(name, str(level.duplicates), str(level.nl.n), *cells)
        table.add_section()
    return table


def gain_lines(summaries: dict[str, AuditSummary]) -> Iterator[str]:
    """How much more strongly the most duplicated texts are memorized than those never inserted."""
    for name, summary in summaries.items():
        if gain := summary.gain:
            levels = f"{gain.from_duplicates} to {gain.to_duplicates} duplicates"
            yield f"{name}: NL gains {mean_cell(gain)} nats per token from {levels}"


def heat_line(score: Score, evidence: TokenEvidence) -> Text:
    """The tokens of a text, coloured by the probability that the model gave each."""
    line = Text(f"\n{score.text_id}: NL {score.nl:.2f}, {score.duplicates} duplicates. ")
    line.append("Each token by its probability: ")
    for step, colour in enumerate(_HEAT):
        line.append(f" ≥{step / len(_HEAT):.1f} ", style=f"white on {colour}")
    line.append("\n")
    for token in evidence.tokens:
        line.append(token.text, style=f"white on {_colour(token)}")
    return line


def _colour(token: Token) -> str:
    probability = 0.0 if token.log_likelihood is None else exp(token.log_likelihood)
    return _HEAT[min(int(probability * len(_HEAT)), len(_HEAT) - 1)]
