"""The report on a suite: its numbers recomputed from the models, its files read as their readers would."""

import csv
import hashlib
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from workers.suite.__main__ import app
from workers.suite.report.report import write_report

PLOTS = {
    *("dose-response", "minimal-pair", "timing", "dilution", "membership", "paraphrase", "interference"),
    "accuracy",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory, whole_suite):
    out = tmp_path_factory.mktemp("report")
    result = CliRunner().invoke(app, ["report", str(whole_suite), "--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.stderr
    assert str(out / "report.md") in result.stderr.replace("\n", "")
    return out


@pytest.fixture(scope="module")
def rows(report):
    with (report / "report.csv").open(newline="") as file:
        return {
            tuple(row[key] for key in ("table", "model", "group", "duplicates", "measure")): row
            for row in csv.DictReader(file)
        }


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@torch.inference_mode()
def nl(model_path, texts):
    """Mean log-likelihood a token after EOS, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path)
    found = []
    for text in texts:
        tokens = torch.tensor(tokenizer(text)["input_ids"])
        inputs = torch.cat([torch.tensor([tokenizer.eos_token_id]), tokens[:-1]])
        log_p = model(inputs[None]).logits[0].log_softmax(-1)
        found.append(log_p.gather(1, tokens[:, None]).mean().item())
    return np.array(found)


def at(records, group, duplicates):
    return np.array([text["group"] == group and text["duplicates"] == duplicates for text in records])


def test_numbers_are_those_of_the_models(rows, whole_suite):
    """Oracle: `transformers` on the saved models, numpy's means, and scikit-learn's AUC."""
    texts, timing_texts = read(whole_suite / "texts.jsonl"), read(whole_suite / "timing" / "texts.jsonl")
    found = {
        model: nl(whole_suite / model, [text["text"] for text in texts])
        for model in ("standard", "perturbed", "dilution", "timing/0-25", "timing/75-100")
    }
    group = "privacy/biographies"
    never, often = at(texts, group, 0), at(texts, group, 4)

    def value(*key):
        row = rows[key]
        assert float(row["low"] or "-inf") <= float(row["value"]) <= float(row["high"] or "inf")
        return float(row["value"])

    assert value("dose-response", "perturbed", group, "4", "NL") == pytest.approx(
        found["perturbed"][often].mean(), abs=1e-5
    )
    for table, records, first, second in (
        ("minimal-pair", texts, "perturbed", "standard"),
        ("dilution", texts, "dilution", "perturbed"),
        ("timing", timing_texts, "timing/75-100", "timing/0-25"),
    ):
        difference = found[first] - found[second]
        inserted = difference[at(records, group, 4)].mean()
        beyond = inserted - difference[at(records, group, 0)].mean()
        key = (table, f"{first} - {second}", group, "4")
        assert value(*key, "NL difference") == pytest.approx(inserted, abs=1e-5)
        assert value(*key, "beyond never inserted") == pytest.approx(beyond, abs=1e-5)
    member = np.concatenate([np.ones(often.sum()), np.zeros(never.sum())])
    for measure, scores in (
        ("loss", found["perturbed"]),
        ("reference", found["perturbed"] - found["standard"]),
    ):
        auc = roc_auc_score(member, np.concatenate([scores[often], scores[never]]))
        assert value("membership", "perturbed", group, "4", measure) == pytest.approx(auc, abs=1e-9)


def test_paraphrases_are_compared_with_a_wording_that_was_not_inserted(rows, whole_suite):
    """Oracle: `transformers` on the saved model."""
    reworded = read(whole_suite / "paraphrases.jsonl")
    group = "test_set/multiple_choice"
    place = at(reworded, group, 1)
    own = nl(whole_suite / "paraphrase", [text["text"] for text in reworded])[place]
    unseen = nl(whole_suite / "paraphrase", [text["metadata"]["paraphrase"] for text in reworded])[place]
    key = ("paraphrase", "paraphrase", group, "1")
    assert float(rows[*key, "NL of own words"]["value"]) == pytest.approx(own.mean(), abs=1e-5)
    assert float(rows[*key, "NL of an unseen wording"]["value"]) == pytest.approx(unseen.mean(), abs=1e-5)
    assert float(rows[*key, "prefers own words"]["value"]) == (own > unseen).mean()


def test_items_are_answered_by_the_likeliest_choice(rows, whole_suite):
    """Oracle: `transformers` on the saved models; of texts that begin alike the likelier ends so."""
    texts = read(whole_suite / "texts.jsonl")
    group = "test_set/multiple_choice"
    items = [text for text in texts if (text["group"], text["duplicates"]) == (group, 4)]
    for model in ("standard", "perturbed"):
        tokenizer = AutoTokenizer.from_pretrained(whole_suite / model)
        right = []
        for item in items:
            question, *choices, _ = item["text"].splitlines()
            asked = "\n".join([question, *choices, "Answer:"])
            said = [f"{asked} {choice}" for choice in choices]
            lengths = [len(tokenizer(text)["input_ids"]) for text in said]
            right.append(np.argmax(nl(whole_suite / model, said) * lengths) == item["answer"])
        row = rows["accuracy", model, group, "4", "accuracy"]
        assert (int(row["n"]), float(row["value"])) == (len(items), pytest.approx(np.mean(right)))


def test_every_table_has_a_plot_that_needs_nothing_else(report, rows):
    drawn = {path.name for path in report.glob("*.svg")}
    assert {name.rpartition("-")[0] for name in drawn} == PLOTS == {key[0] for key in rows}
    for path in report.glob("*.svg"):
        drawing = ET.parse(path).getroot()
        words = {element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")}
        assert "duplicates" in words
        assert not [name for element in drawing.iter() for name in element.attrib if name.endswith("href")]


def test_the_report_says_what_it_is_about_and_quotes_no_text(report, whole_suite):
    written = (report / "report.md").read_text(encoding="utf-8")
    for heading in ("Timing", "Dilution", "What cannot be concluded", "Digests", "How to reproduce"):
        assert f"\n## {heading}\n" in written
    assert all(f"({path.name})" in written for path in report.glob("*.svg"))
    weights = (whole_suite / "perturbed" / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in written
    assert "memaudit suite train --size tiny --steps 60 --seed 0 --device cpu --timing --dilution" in written
    everything = written + (report / "report.csv").read_text(encoding="utf-8")
    assert not [text["id"] for text in read(whole_suite / "texts.jsonl") if text["text"][:30] in everything]


def test_the_same_suite_gives_the_same_bytes(tmp_path, report, whole_suite):
    write_report(whole_suite, tmp_path, "cpu", Console(quiet=True))
    files = {path.name: path.read_bytes() for path in report.iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_without_a_finished_suite_there_is_no_report(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds no finished suite" in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())
