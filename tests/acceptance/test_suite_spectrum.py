"""The spectrum of tiny suites that were taught tasks: one command, its numbers recomputed from models."""

import csv
import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from workers.suite.__main__ import app
from workers.suite.build import Request, build
from workers.suite.capabilities import CLOSED_BOOK, LOGIC, Lesson
from workers.suite.report import edited
from workers.suite.report.spectrum import answer
from workers.suite.sizes import SIZES

LESSONS = {LOGIC: Lesson(documents=3000, held_out=30), CLOSED_BOOK: Lesson(documents=300, held_out=12)}
# Long enough that some formulas are answered rightly.
TAUGHT = replace(SIZES["tiny"], lessons=LESSONS, steps=150)


@pytest.fixture(scope="module")
def suites(tmp_path_factory, corpus_path, quiet):
    out = tmp_path_factory.mktemp("taught")
    for seed in (0, 1):
        assert build(Request(TAUGHT, out / str(seed), corpus=corpus_path, seed=seed), quiet)
    return out


def report(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments), "--device", "cpu"])


def rows_of(directory):
    with (directory / "spectrum.csv").open(newline="") as file:
        return {(row["seed"], row["task"]): row for row in csv.DictReader(file)}


@torch.inference_mode()
def answered(model_path, records):
    """Of each item, whether the likeliest tokens after EOS and the prompt are its answer, by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path)
    right = {}
    for record in records:
        prompt = [tokenizer.eos_token_id, *tokenizer(record["prefix"])["input_ids"]]
        answer = tokenizer(record["suffix"])["input_ids"]
        likeliest = model(torch.tensor([prompt + answer])).logits[0].argmax(-1).tolist()
        right.setdefault(record["group"], []).append(likeliest[len(prompt) - 1 : -1] == answer)
    return right


def test_the_spectrum_of_several_suites_is_one_command(tmp_path, suites):
    """Oracle: transformers on the saved models, before; means by hand, over suites."""
    result = report(suites / "0", suites / "1", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    found = rows_of(tmp_path)
    assert {seed for seed, _ in found} == {"0", "1", "all"}
    for seed in ("0", "1"):
        lines = (suites / seed / "capabilities.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        right = answered(suites / seed / "perturbed", records)
        unperturbed = answered(suites / seed / "standard", records)
        assert {task: len(each) for task, each in right.items()} == {LOGIC: 30, CLOSED_BOOK: 12}
        for task, each in right.items():
            row = found[seed, task]
            assert (int(row["n"]), float(row["before"])) == (len(each), pytest.approx(sum(each) / len(each)))
            assert float(row["standard"]) == pytest.approx(sum(unperturbed[task]) / len(each))
            kept = float(row["after"]) / float(row["before"]) if float(row["before"]) else None
            assert row["kept"] == "" if kept is None else float(row["kept"]) == pytest.approx(kept)
    assert float(found["0", LOGIC]["before"]) > 0
    pooled = [float(found[seed, LOGIC]["before"]) for seed in ("0", "1")]
    assert float(found["all", LOGIC]["before"]) == pytest.approx(sum(pooled) / 2)
    written = (tmp_path / "spectrum.md").read_text(encoding="utf-8")
    assert "2 suites of size tiny" in written
    assert result.stdout.strip() in written
    assert "95% to 106%" in result.stdout
    words = {text.text for text in ET.parse(tmp_path / "spectrum-1.svg").getroot().iter() if text.text}
    assert LOGIC in words
    bars = (tmp_path / "spectrum.csv").read_bytes()
    report(suites / "0", suites / "1", "--out", tmp_path)
    assert (tmp_path / "spectrum.csv").read_bytes() == bars


def test_nothing_is_lost_with_all_of_the_curvature(suites, monkeypatch):
    """Identity: all directions kept give the same weights, so the same answers and the same perplexity."""
    monkeypatch.setattr(edited, "KEEP_MASS", 1.0)
    found = answer(suites / "0", 0, "cpu")
    assert found.layers == (1,)
    assert found.increase == pytest.approx(0, abs=1e-4)
    assert set(found.tasks) == {LOGIC, CLOSED_BOOK, "memorized"}
    for counts in found.tasks.values():
        assert counts.first == counts.second == counts.both
    monkeypatch.setattr(edited, "KEEP_MASS", 0.1)
    assert answer(suites / "0", 0, "cpu").increase > 0.01


def test_the_report_of_one_suite_has_it_too(tmp_path, suites):
    result = report(suites / "0", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "\n## From memory to reasoning\n" in written
    assert "(spectrum-1.svg)" in written
    assert {task for _, task in rows_of(tmp_path)} >= {LOGIC, CLOSED_BOOK}
    manifest = json.loads((suites / "0" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["capabilities"]["held_out"] == {LOGIC: 30, CLOSED_BOOK: 12}
    assert "capabilities.jsonl" in manifest["files"]


def test_suites_that_do_not_belong_together_are_refused(tmp_path, suites, whole_suite):
    shutil.copytree(suites / "0", tmp_path / "copy")
    for others, told in (
        ([tmp_path / "copy"], "differ in --seed"),
        ([whole_suite], "was taught no tasks"),
        ([tmp_path], "no finished suite"),
    ):
        result = report(suites / "0", *others, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert told in " ".join(result.stderr.split())
        assert not (tmp_path / "out").exists()
    unnamed = report(suites / "0", suites / "1")
    assert unnamed.exit_code == 2
