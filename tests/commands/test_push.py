"""Runs are published as a data set: what is uploaded is what is written to a folder, and nothing unasked."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import DatasetCard
from huggingface_hub.errors import LocalTokenNotFoundError

from tests.analysis.folders import write_run
from tests.commands.runs import make_run, right_up_to
from tta_bench import cli
from tta_bench.analysis.load import load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.summary import summarize
from tta_bench.analysis.tables import write_tables


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    model = {"name": "/home/somebody/weights/big", "fingerprint": "f"}
    make_run(folder, "json-tta-1", right_up_to(3), n_problems=4, replicates=2, model=model)
    make_run(folder, "json-low_confidence-2", right_up_to(2), n_problems=4, replicates=2, sampler="low_confidence")

    (folder / "runs" / "json-tta-1" / "traces").mkdir()
    steps = pd.DataFrame({"key": ["dev-00000/0"] * 2, "step": [0, 1], "entropy": [0.5, 0.25], "token.position": [[1], [2]]})
    steps.to_parquet(folder / "runs" / "json-tta-1" / "traces" / "0.parquet")

    def fails(problem: Any, number: int, replicate: int) -> str | Exception:
        return ValueError("no mask left") if number == 1 and replicate == 1 else problem.target

    make_run(folder, "json-random-3", fails, n_problems=4, replicates=2, sampler="random")
    report = folder / "reports" / "study"
    report.mkdir(parents=True)
    study = {"runs": "../../runs", "pairs": [["json-low_confidence-2", "json-tta-1"]]}
    (report / "study.json").write_text(json.dumps(study))
    pd.DataFrame({"task": ["json"], "model": ["mini"], "score": [0.5], "verdict": ["better"]}).to_csv(
        report / "summary.csv", index=False
    )
    (report / "summary.md").write_text("| task | score % |\n|---|---|\n| json | 50.0 |\n\nA note.\n")
    return folder


def push(*words: object) -> int:
    return cli.main(["push", *map(str, words)])


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_folder_loads_and_holds_every_record(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from datasets import load_dataset

    assert push("me/mine", output, "--to", tmp_path / "set") == 0
    said = capsys.readouterr().out
    assert "me/mine: a private data set of 3 run(s), licence cc-by-4.0" in said
    assert "nothing was" in said
    cache = str(tmp_path / "cache")
    rows = load_dataset(str(tmp_path / "set"), split="train", cache_dir=cache).to_pandas()
    assert len(rows) == 24
    for path in (output / "runs").iterdir():
        records = [json.loads(line) for line in (path / "records.jsonl").read_text().splitlines()]
        mine = rows[rows["run_id"] == path.name].set_index(["problem", "replicate"])
        assert len(mine) == len(records) == 8
        for record in records:
            row = mine.loc[(record["problem"], record["replicate"])]
            if record["error"]:
                assert json.loads(row["error"]) == {key: record["error"][key] for key in ("stage", "type", "message")}
                assert pd.isna(row["score"])
            else:
                assert (row["score"], row["text"]) == (record["score"], record["text"])
                assert list(row["tokens"]) == record["tokens"]
    runs = load_dataset(str(tmp_path / "set"), "runs", split="train", cache_dir=cache).to_pandas().set_index("run_id")
    assert runs.loc["json-tta-1", "score"] == 0.75
    assert pd.isna(runs.loc["json-random-3", "score"]), "a mean over some of the replicates"
    assert runs["n_errors"].to_dict() == {"json-tta-1": 0, "json-low_confidence-2": 0, "json-random-3": 1}
    assert runs.loc["json-tta-1", "model"] == "big"
    everything = b"".join(files(tmp_path / "set").values())
    assert b"/home/somebody" not in everything
    assert b"Traceback" not in everything
    config = yaml.safe_load((tmp_path / "set" / "runs" / "json-tta-1" / "config.yaml").read_text())
    own = yaml.safe_load((output / "runs" / "json-tta-1" / "config.yaml").read_text())
    assert config == {**own, "model": {"name": "big", "fingerprint": "f"}}


def test_of_a_report_its_runs_and_its_table_are_published(output: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    assert push("me/mine", output / "reports" / "study", "--to", tmp_path / "set", "--licence", "mit", "--traces") == 0
    found = load_dataset(str(tmp_path / "set"), "comparisons", split="train", cache_dir=str(tmp_path / "cache"))
    assert found["verdict"] == ["better"]
    assert {path.name for path in (tmp_path / "set" / "runs").iterdir()} == {"json-tta-1", "json-low_confidence-2"}
    card = DatasetCard.load(tmp_path / "set" / "README.md")
    assert card.data.license == "mit"
    assert [one["config_name"] for one in card.data.to_dict()["configs"]] == ["records", "runs", "comparisons", "traces"]
    steps = load_dataset(str(tmp_path / "set"), "traces", split="train", cache_dir=str(tmp_path / "cache"))
    assert steps[1] == {"run_id": "json-tta-1", "key": "dev-00000/0", "step": 1, "entropy": 0.25}
    assert "| json | 50.0 |" in card.text
    assert 'load_dataset("me/mine", split="train")' in card.text
    assert "2 sampler(s) on json (dev split), model big, mini; 16 answers, made 2026-01-02" in card.text


def test_a_table_has_no_places_of_this_machine(tmp_path: Path) -> None:
    """Two models in long folders, each with rows of its own: settings tell them apart, in words that are cut."""
    report = tmp_path / "reports" / "study"
    report.mkdir(parents=True)
    pairs = []
    for model in ("big", "small"):
        home = f"/home/somebody/{model}/a_folder_of_a_name_that_is_long"
        settings = {
            "model": {"name": f"{home}/{model}-8B", "fingerprint": model},
            "task": {"name": "toy", "version": "1", "target": "t", "data": "d", "path": f"{home}/rows-{model}.jsonl"},
        }
        scores = (np.array([[1.0], [0], [0], [1]]), np.array([[1.0], [1], [0], [1]]))
        names = ("low_confidence", "tta")
        pairs.append([write_run(tmp_path, {"name": n}, s, settings=settings) for n, s in zip(names, scores, strict=True)])
    study = {"name": "study", "runs": "../../runs", "pairs": pairs, "n_problems": 4, "replicates": 1}
    plan = TestPlan(n_resamples=99, n_bootstrap=200)
    (report / "study.json").write_text(json.dumps(study | {"tests": asdict(plan)}))
    write_tables(summarize(load_study(report), plan), report, note="A note.", alpha=0.05)
    own = pd.read_csv(report / "summary.csv")
    assert own["model"].str.startswith("/home/somebody").all()
    assert own["settings"].str.contains("model=/home/somebody/big/a..", regex=False).any(), "the premise: a path that is cut"

    assert push("me/mine", report, "--to", tmp_path / "set") == 0
    found = pd.read_parquet(tmp_path / "set" / "data" / "comparisons.parquet")
    assert found["model"].tolist() == ["big-8B"] * 2 + ["small-8B"] * 2
    assert found["settings"][0] == "steps=8 model=big-8B toy.path=rows-big.jsonl"
    same = [name for name in own if name not in ("model", "settings")]
    pd.testing.assert_frame_equal(found[same], own[same])
    card = (tmp_path / "set" / "README.md").read_text()
    assert "toy.path=rows-small.jsonl" in card
    tables = [pd.read_parquet(file).to_csv() for file in (tmp_path / "set" / "data").iterdir()]
    assert not [text for text in (card, *tables) if "/home" in text]


def test_scores_of_runs_count_clusters_and_no_run_that_failed_somewhere(tmp_path: Path) -> None:
    """Two problems of each passage that score alike tell no more than one."""
    once = np.array([[1.0], [1], [0], [1]])
    write_run(tmp_path, {"name": "apart"}, once)
    write_run(tmp_path, {"name": "together"}, once.repeat(2, axis=0), clusters=[f"passage {i // 2}" for i in range(8)])
    write_run(tmp_path, {"name": "fails"}, np.array([[1.0], [1], [np.nan], [1]]))
    assert push("me/mine", tmp_path, "--to", tmp_path / "set") == 0
    runs = pd.read_parquet(tmp_path / "set" / "data" / "runs.parquet").set_index("sampler")
    columns = ["score", "score_ci_low", "score_ci_high"]
    assert runs.loc["together", columns].tolist() == pytest.approx(runs.loc["apart", columns].tolist())
    assert runs.loc["fails", columns].isna().all(), "a mean over what did not fail"
    assert runs["n_errors"].to_dict() == {"apart": 0, "together": 0, "fails": 1}
    row = next(line for line in (tmp_path / "set" / "README.md").read_text().splitlines() if line.startswith("| toy-fails"))
    assert "| 8 | 3 |  |  | 8 |" in row


class FakeHub:
    """Stands for ``HfApi``.

    Attributes:
        calls: what was asked of it.
        uploaded: content of the files it was given.
    """

    endpoint = "https://hub"
    private = True
    error: Exception | None = None

    def __init__(self) -> None:
        type(self).last = self
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.uploaded: dict[str, bytes] = {}

    def create_repo(self, repo: str, **how: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append((repo, how))

    def dataset_info(self, repo: str) -> Any:
        return type("Info", (), {"private": self.private})

    def upload_folder(self, *, repo_id: str, folder_path: Path, repo_type: str, commit_message: str) -> None:
        self.calls.append((repo_id, {"repo_type": repo_type, "commit_message": commit_message}))
        self.uploaded = files(folder_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    fake = type("FakeHub", (FakeHub,), {})
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    return fake


def test_what_is_uploaded_is_what_is_written(output: Path, tmp_path: Path, hub: Any, capsys: pytest.CaptureFixture) -> None:
    assert push("me/mine", output, "--to", tmp_path / "set") == 0
    assert not hasattr(hub, "last"), "the hub was spoken to"
    assert push("me/mine", output, "--yes") == 0
    assert hub.last.uploaded == files(tmp_path / "set")
    assert hub.last.calls == [
        ("me/mine", {"repo_type": "dataset", "private": True, "exist_ok": True}),
        ("me/mine", {"repo_type": "dataset", "commit_message": "3 runs of tta_bench"}),
    ]
    assert "uploaded: https://hub/datasets/me/mine" in capsys.readouterr().out
    assert push("me/mine", output, "--yes", "--public") == 0
    assert hub.last.calls[0][1]["private"] is False


@pytest.mark.parametrize(("answer", "uploads"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_it_asks_first_and_says_what_it_is(
    answer: str, uploads: bool, output: Path, hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert push("me/mine", output) == (0 if uploads else cli.FAILED)
    assert hasattr(hub, "last") == uploads
    said = capsys.readouterr().out
    assert said.index("9 files") < said.index("Upload this to me/mine? [y/N]")


def test_nothing_private_goes_to_a_public_place(output: Path, hub: Any, capsys: pytest.CaptureFixture) -> None:
    hub.private = False
    assert push("me/mine", output, "--yes") == cli.FAILED
    assert "me/mine is there and public, so nothing was uploaded" in capsys.readouterr().err
    assert not hub.last.uploaded


def test_an_upload_that_fails_is_a_sentence(output: Path, hub: Any, capsys: pytest.CaptureFixture) -> None:
    hub.error = LocalTokenNotFoundError("no token\nfound")
    assert push("me/mine", output, "--yes") == cli.FAILED
    said = capsys.readouterr().err
    assert "the upload to me/mine failed: no token found" in said
    assert "hf auth login" in said


def test_bad_words_are_refused(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_run(tmp_path / "bare", "json-tta-1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for words, message in [
        ([], "the following arguments are required: repo; usage: tta-bench push"),
        (["mine"], "'mine' names no owner"),
        (["me/mi ne"], "is no name of a repository"),
        (["me/mine", output, "--too", "x"], "unrecognized arguments: --too x"),
        (["me/mine", tmp_path], "holds neither study.json (a report folder) nor runs/ (an output folder)"),
        (["me/mine", output, "--to", tmp_path / "full"], "is not empty; name a folder that is"),
        (["me/mine", tmp_path / "bare", "--to", tmp_path / "new", "--traces"], "--traces: these runs have none; leave it out"),
    ]:
        assert push(*words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
