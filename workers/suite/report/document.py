"""The report as files: Markdown to read, CSV to compute with."""

import csv
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from workers.suite.report.finding import Finding, Grid, Row
from workers.suite.report.plots import plot_files

JSONObject = Mapping[str, Any]

# Bullets, wrapped as Markdown may be.
_READING = """\
- **NL** is the mean log-likelihood of a text's tokens in nats, each given EOS and the tokens before it
  (HUBBLE's NL(x)): at most 0, and higher is more memorized.
- **strict**: after the first 64 tokens of a text, greedy decoding says the next 48 without a mistake. Shorter
  texts are split in the same proportion.
- **duplicates**: how often a text was inserted, each time as a document of its own in another training
  sequence.
- **[low, high]** is a 95 % interval: of a mean Student's, or Hall's where numbers are skewed; of a share
  Blaker's; of an AUC DeLong's on the logit scale. A difference is of the same texts under two models.
- **beyond never inserted** is a difference less the same difference of the group's texts that were never
  inserted: what is left is due to a text itself, not to its form or to longer training.
- **all three** pools the suite's own texts of three domains. `n`: texts, for an AUC members."""
_LIMITS = """\
- Each model was trained once. Intervals tell how much texts differ, not how another seed would turn out.
- Intervals stand side by side without a correction for their number: of twenty, one misses.
- Biographies and items are written by templates, so that parts of a text are likely without having been
  seen. Compare with the texts that were never inserted, not with 0.
- Greedy decoding after one prompt was tried: what is not recited here may still be extractable."""
_OF_DILUTION = (
    "The diluted model was trained for twice as many steps, not only on more text, and its learning rate "
    "falls half as fast."
)
_OF_TIMING = (
    "The learning rate falls over the training, so that a window is both a time and a learning rate. "
    "Intervals of fewer than six texts cover less than they claim where the numbers are skewed."
)
_OF_PARAPHRASES = (
    "Paraphrases are written by templates, which share more words than HUBBLE's, which a language model "
    "wrote. Passages have none: that model saw them as they are."
)


def write_csv(findings: Iterable[Finding], path: Path) -> None:
    """Write every number of the findings, one a line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("table", *(field.name for field in fields(Row))))
        for finding in findings:
            writer.writerows((finding.name, *astuple(row)) for row in finding.rows)


def write_markdown(findings: Sequence[Finding], manifest: JSONObject, path: Path) -> None:
    """Write the report for readers."""
    parts = [
        f"# What a suite of size {manifest['configuration']['size']['name']} memorized",
        _opening(manifest),
        "## How to read this\n\n" + _READING,
        *(_section(finding) for finding in findings),
        "## What cannot be concluded\n\n" + f"{_list(_limits(manifest))}\n{_LIMITS}",
        "## Digests\n\nsha256 of the weights of each model and of each text set.\n\n" + _digests(manifest),
        "## How to reproduce\n\n" + _reproduction(manifest),
    ]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def write_spectrum_markdown(finding: Finding, manifests: Sequence[JSONObject], path: Path) -> None:
    """Write one finding over several suites for readers."""
    size = manifests[0]["configuration"]["size"]["name"]
    seeds = ", ".join(str(manifest["configuration"]["seed"]) for manifest in manifests)
    parts = [
        f"# What an edit keeps in {len(manifests)} suites of size {size}",
        f"The suites differ in their seed alone: {seeds}.",
        _section(finding),
    ]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _opening(manifest: JSONObject) -> str:
    configuration, inserted = manifest["configuration"], manifest["insertions"]["perturbed"]
    size, background = configuration["size"], manifest["background"]
    return (
        f"{len(manifest['insertions']) + 1} Llama models of {size['layers']} layers and width "
        f"{size['hidden_size']} were trained on {background['tokens']:,} tokens or more of the corpus "
        f'"{configuration["corpus"]["name"]}", and all but the standard one with controlled insertions, '
        f"after HUBBLE (arXiv 2510.19811). The perturbed model's insertions are {inserted['copies']:,} "
        f"copies, {inserted['share_of_tokens']:.1%} of its tokens."
    )


def _section(finding: Finding) -> str:
    return "\n\n".join(
        [
            f"## {finding.title}",
            f"*{finding.question}*",
            *filter(None, [finding.explanation]),
            _list(finding.answers),
            *(f"![{finding.title}: {finding.question}]({name})" for name in plot_files(finding)),
            *map(table, finding.grids),
        ]
    )


def _limits(manifest: JSONObject) -> list[str]:
    """What this very suite cannot show."""
    insertions, passes = manifest["insertions"], manifest["background"]["corpus_passes"]
    share = insertions["perturbed"]["share_of_tokens"]
    scale = (
        f"Insertions are {share:.1%} of the perturbed model's tokens; HUBBLE's are 0.08 %. How many "
        "duplicates it takes here says nothing of how many it takes in a large model."
    )
    limits = [scale]
    if passes > 1:
        limits.append(f"The background is one corpus {passes:.1f} times over, not new text throughout.")
    if "dilution" in insertions:
        limits.append(_OF_DILUTION)
    if any(name.startswith("timing/") for name in insertions):
        limits.append(_OF_TIMING)
    if "paraphrase" in insertions:
        limits.append(_OF_PARAPHRASES)
    return limits


def _digests(manifest: JSONObject) -> str:
    files = manifest["files"]
    told = [name for name in files if name.endswith(".jsonl")]
    told += [f"{model}/model.safetensors" for model in ("standard", *manifest["insertions"])]
    return table(Grid(("file", "sha256"), tuple((name, files[name]) for name in told)))


def _reproduction(manifest: JSONObject) -> str:
    configuration, environment = manifest["configuration"], manifest["environment"]
    corpus = configuration["corpus"]
    libraries = ", ".join(f"{name} {version}" for name, version in environment["libraries"].items())
    return (
        f"```\n{_command(configuration, environment['device'])} --out DIR\nmemaudit suite report DIR\n```\n\n"
        f"Corpus: {corpus['name']}, {corpus['documents']:,} documents, sha256 `{corpus['sha256']}`. "
        f"Trained with Python {environment['python']} on {environment['machine']}, {environment['device']}, "
        f"{environment['threads']} threads; {libraries}. The same commands on the same machine give the same "
        "bits. Every number is in `report.csv`."
    )


def _command(configuration: JSONObject, device: str) -> str:
    """The command that trains this suite again; of the user's own files only names are known."""
    size = configuration["size"]
    command = ["memaudit", "suite", "train", "--size", size["name"], "--steps", str(size["steps"])]
    command += ["--seed", str(configuration["seed"]), "--device", device]
    variants = ("timing", "dilution", "paraphrases", "interference")
    command += [f"--{name}" for name in variants if configuration.get(name)]
    if not configuration["corpus"]["name"].startswith("standard library of"):
        command += ["--corpus", configuration["corpus"]["name"]]
    if plant := configuration.get("plant"):
        command += ["--plant", plant["name"]]
    if steps := configuration["keep_steps"]:
        command += ["--keep-steps", str(steps)]
    return shlex.join(command)


def table(grid: Grid) -> str:
    """A table in Markdown."""
    lines = [grid.header, tuple("---" for _ in grid.header), *grid.lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
