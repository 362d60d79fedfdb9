"""A suite, trained end to end: dose and response, the same bits again, caching and interruption."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from scipy.stats import bootstrap
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.contracts.texts import TextRecord
from workers.suite.build import Request, build
from workers.suite.errors import OutputDamaged, OutputOccupied, TrainingDiverged, TrainingFailed
from workers.suite.processes import train_all
from workers.suite.sizes import SIZES
from workers.suite.training import Run
from workers.suite.variants import TIMING_WINDOWS

# Enough steps for a model of 0.2M parameters to recite what it has seen 256 times.
RECITING = replace(
    SIZES["tiny"],
    steps=160,
    levels={0: 16, 1: 4, 4: 2, 16: 1, 64: 1, 256: 1},
    timing_levels={},
)
PREFIX, SUFFIX = 64, 48


@pytest.fixture(scope="module")
def reciting_suite(tmp_path_factory, corpus_path, quiet):
    out = tmp_path_factory.mktemp("reciting") / "suite"
    assert build(Request(RECITING, out, corpus=corpus_path, seed=1, keep_steps=80), quiet)
    return out


def records(path):
    return [TextRecord.model_validate_json(line) for line in path.read_bytes().splitlines()]


def digests(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def one_thread():
    """Matrices this small are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@torch.inference_mode()
def measure(model_path, texts):
    """Mean log-likelihood a token, and whether greedy decoding recites the last 3/7 of the tokens.

    Texts of 112 tokens or more are split 64/48; shorter ones in the same proportion.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path)
    nl, recited = [], []
    for text in texts:
        tokens = torch.tensor(tokenizer(text.text)["input_ids"])
        inputs = torch.cat([torch.tensor([tokenizer.eos_token_id]), tokens[:-1]])
        log_p = model(inputs[None]).logits[0].log_softmax(-1)
        nl.append(log_p.gather(1, tokens[:, None]).mean().item())
        prefix = PREFIX if len(tokens) >= PREFIX + SUFFIX else len(tokens) * PREFIX // (PREFIX + SUFFIX)
        suffix = tokens[prefix : prefix + SUFFIX]
        greedy = log_p[prefix : prefix + len(suffix)].argmax(-1)
        recited.append(bool((greedy == suffix).all()))
    return np.array(nl), np.array(recited)


def test_likelihood_rises_with_duplicates_in_the_perturbed_model_alone(reciting_suite):
    """Oracle: `transformers` on the saved models, and scipy's bootstrap interval of the gain."""
    texts = records(reciting_suite / "texts.jsonl")
    often = np.array([text.duplicates == 256 for text in texts])
    never = np.array([text.duplicates == 0 for text in texts])

    perturbed, recited = measure(reciting_suite / "perturbed", texts)
    assert perturbed[often].mean() - perturbed[never].mean() > 2
    assert recited[often].mean() >= 0.8
    assert not recited[never].any()

    standard, recited = measure(reciting_suite / "standard", texts)
    gain = standard[often].mean() - standard[never].mean()
    interval = bootstrap(
        (standard[often], standard[never]),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert interval.low < 0 < interval.high or abs(gain) < 0.5
    assert not recited.any()


def test_text_sets_and_manifest_agree(reciting_suite):
    texts = records(reciting_suite / "texts.jsonl")
    clean = records(reciting_suite / "clean.jsonl")
    calibration = records(reciting_suite / "calibration.jsonl")
    assert len({text.id for text in calibration}) == RECITING.calibration_documents
    held_out = {text.text for text in (*texts, *clean)}
    assert all(text.member and text.text not in held_out for text in calibration)
    manifest = json.loads((reciting_suite / "manifest.json").read_text())
    insertions = manifest["insertions"]["perturbed"]
    assert insertions["copies"] == sum(text.duplicates for text in texts)
    assert insertions["share_of_sequences"] == insertions["copies"] / (160 * 8)
    tokenizer = AutoTokenizer.from_pretrained(reciting_suite / "perturbed")
    inserted = sum(len(tokenizer(text.text)["input_ids"]) * text.duplicates for text in texts)
    assert insertions["tokens"] == inserted
    assert insertions["share_of_tokens"] == pytest.approx(inserted / (160 * 8 * 129), abs=1e-6)
    assert insertions["texts"]["privacy/biographies"] == {"0": 16, "1": 4, "4": 2, "16": 1, "64": 1, "256": 1}
    assert {text.group for text in clean} == {"clean"}
    assert not any(text.member for text in clean)
    files = digests(reciting_suite)
    files.pop("manifest.json")
    assert manifest["files"] == files


def test_kept_steps_are_checkpoints_of_the_run(reciting_suite):
    """Oracle: the last checkpoint is the finished model, bit for bit; the one before is another."""
    for name in ("standard", "perturbed"):
        final = digests(reciting_suite / name)
        steps = {path.name for path in (reciting_suite / name / "steps").iterdir()}
        assert steps == {"80", "160"}
        assert final["steps/160/model.safetensors"] == final["model.safetensors"]
        assert final["steps/80/model.safetensors"] != final["model.safetensors"]
        assert (reciting_suite / name / "model.safetensors").stat().st_mode & 0o777 == 0o644
        assert final["steps/80/tokenizer.json"] == final["tokenizer.json"]


def test_the_same_request_gives_the_same_bits(tmp_path, whole_suite, corpus_path, quiet):
    """Oracle: sha256 of every file, against a suite that trained every other run beside."""
    out = tmp_path / "again"
    (out / ".work.partial").mkdir(parents=True)
    (out / ".standard.partial").mkdir()
    (out / "standard").mkdir()
    (out / "standard" / "leftover").write_text("an interrupted build left this")
    assert build(Request(SIZES["tiny"], out, corpus=corpus_path), quiet)
    again, first = digests(out), digests(whole_suite)
    assert first.pop("manifest.json") != again.pop("manifest.json")
    beside = ("timing/", "dilution/", "paraphrase", "interference/")
    assert again == {name: digest for name, digest in first.items() if not name.startswith(beside)}
    assert again["standard/model.safetensors"] != again["perturbed/model.safetensors"]


def test_every_timing_window_has_its_own_model(whole_suite):
    windows = {f"{first}-{last}" for first, last in TIMING_WINDOWS}
    models = {path.parent.name: path for path in (whole_suite / "timing").glob("*/model.safetensors")}
    assert set(models) == windows
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in models.values()}) == len(windows)
    texts = records(whole_suite / "texts.jsonl")
    timing_texts = records(whole_suite / "timing" / "texts.jsonl")
    assert [text.text for text in texts] == [text.text for text in timing_texts]
    manifest = json.loads((whole_suite / "manifest.json").read_text())
    copies = sum(text.duplicates for text in timing_texts)
    assert {manifest["insertions"][f"timing/{window}"]["copies"] for window in windows} == {copies}
    assert not list(whole_suite.rglob("*.partial"))


def test_paraphrase_and_interference_runs_insert_what_they_say(whole_suite):
    """Oracle: the perturbed run's own counts in the manifest."""
    insertions = json.loads((whole_suite / "manifest.json").read_text())["insertions"]
    copies = {name: insertions[name]["copies"] for name in insertions}
    assert copies["paraphrase"] == copies["perturbed"]
    domains = ("copyright", "privacy", "test_set")
    assert sum(copies[f"interference/{domain}"] for domain in domains) == copies["perturbed"]
    texts = {text.id: text for text in records(whole_suite / "texts.jsonl")}
    reworded = records(whole_suite / "paraphrases.jsonl")
    assert {text.group for text in reworded} == {"privacy/biographies", "test_set/multiple_choice"}
    for text in reworded:
        assert text.text == texts[text.id].text != text.metadata["paraphrase"]
    models = {path.parent for path in whole_suite.rglob("model.safetensors")}
    assert {whole_suite / name for name in (*insertions, "standard")} == models


def test_the_diluted_run_is_twice_as_long(whole_suite):
    """Oracle: the perturbed run's own counts in the manifest."""
    manifest = json.loads((whole_suite / "manifest.json").read_text())
    assert manifest["configuration"]["dilution"] is True
    perturbed, diluted = manifest["insertions"]["perturbed"], manifest["insertions"]["dilution"]
    assert diluted["copies"] == perturbed["copies"]
    assert diluted["texts"] == perturbed["texts"]
    assert diluted["share_of_sequences"] == pytest.approx(perturbed["share_of_sequences"] / 2, abs=1e-6)
    background = diluted["background"]
    assert background["sequences"] == 2 * manifest["background"]["sequences"]
    assert background["corpus_passes"] == pytest.approx(2 * manifest["background"]["corpus_passes"], abs=1e-3)
    weights = (whole_suite / "dilution" / "model.safetensors").read_bytes()
    assert weights != (whole_suite / "perturbed" / "model.safetensors").read_bytes()


def test_a_suite_without_the_newer_runs_is_named_as_before(reciting_suite):
    """Keys of the configuration that came later are there only when asked for."""
    manifest = json.loads((reciting_suite / "manifest.json").read_text())
    assert set(manifest["configuration"]) == {"seed", "size", "corpus", "timing", "keep_steps"}
    assert "background" not in manifest["insertions"]["perturbed"]


def test_a_finished_suite_is_not_trained_again(reciting_suite, corpus_path, quiet):
    request = Request(RECITING, reciting_suite, corpus=corpus_path, seed=1, keep_steps=80)
    before = {path: path.stat().st_mtime_ns for path in reciting_suite.rglob("*")}
    assert not build(request, quiet)
    assert {path: path.stat().st_mtime_ns for path in reciting_suite.rglob("*")} == before

    with pytest.raises(OutputOccupied, match="another configuration"):
        build(replace(request, seed=2), quiet)

    weights = reciting_suite / "standard" / "model.safetensors"
    original = weights.read_bytes()
    try:
        weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        with pytest.raises(OutputDamaged, match=r"standard/model\.safetensors does not match"):
            build(request, quiet)
    finally:
        weights.write_bytes(original)


def test_somebody_elses_directory_is_left_alone(tmp_path, corpus_path, quiet):
    (tmp_path / "standard").write_text("mine")
    with pytest.raises(OutputOccupied, match="something else"):
        build(Request(SIZES["tiny"], tmp_path, corpus=corpus_path), quiet)
    assert (tmp_path / "standard").read_text() == "mine"


def test_a_run_that_diverges_leaves_no_model(tmp_path, corpus_path, quiet):
    out = tmp_path / "suite"
    diverging = replace(SIZES["tiny"], learning_rate=1e30)
    with pytest.raises(TrainingDiverged, match="not finite at step"):
        build(Request(diverging, out, corpus=corpus_path), quiet)
    assert not any((out / name).exists() for name in ("standard", "perturbed", "manifest.json"))


def test_a_process_that_dies_is_noticed(tmp_path, quiet):
    run = Run(
        name="lost",
        size=SIZES["tiny"],
        seed=0,
        sequences=tmp_path / "never-written.npy",
        tokenizer=tmp_path,
        output=tmp_path / "model",
        device="cpu",
        threads=1,
        keep_steps=None,
    )
    with pytest.raises(TrainingFailed, match="Training lost ended with exit status 1"):
        train_all([run], 1, quiet)


def press_control_c(pid):
    os.killpg(pid, signal.SIGINT)


def kill_the_parent_alone(pid):
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [press_control_c, kill_the_parent_alone])
def test_an_interrupted_suite_never_looks_complete(tmp_path, corpus_path, end):
    """Checkpoints show that training is under way; then the command ends and so do its children."""
    out = tmp_path / "suite"
    arguments = ["--size", "tiny", "--steps", "4000", "--keep-steps", "10", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.suite", "train", *arguments, "--corpus", str(corpus_path)],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    family = []
    try:
        deadline = time.monotonic() + 240
        while len(list(out.glob(".*.partial/steps/*"))) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        end(process.pid)
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0
        assert len(family) >= 2
        assert not psutil.wait_procs(family, timeout=30)[1]
    finally:
        for survivor in (process, *family):
            with suppress(psutil.NoSuchProcess):
                survivor.kill()
    assert not any((out / name).exists() for name in ("standard", "perturbed", "manifest.json"))
    assert b"Traceback" not in errors
