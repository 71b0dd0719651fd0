from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.commands.runs import make_run, right_up_to
from tta_bench import cli
from tta_bench.commands import ls
from tta_bench.runner.store import RunFolder


def listing(folder: Path, width: int = 120) -> list[str]:
    console = Console(file=StringIO(), width=width)
    assert ls.main(folder, [], console) == 0
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_line_says_what_a_run_is_and_how_far(tmp_path: Path) -> None:
    make_run(tmp_path, "json-tta-1", right_up_to(3), sampler_tta_k=3)
    make_run(tmp_path, "json-tta-2", lambda *_: ValueError("no"), sampler_tta_k=5, split="test", manifest={"status": "failed"})
    make_run(tmp_path, "json-random-1", sampler="random", n_problems=0)
    head, random, first, second = listing(tmp_path)
    assert " ".join(head.split()) == "run task sampler and settings split status records score % [CI] updated"
    assert random.split()[:6] == ["json-random-1", "json", "random", "steps=4", "dev", "done"]
    assert first.split()[:7] == ["json-tta-1", "json", "tta", "steps=4", "tta_k=3", "dev", "done"]
    assert first.split()[7:10] == ["4", "75.0", "[-4.6,"]
    assert second.split()[3:11] == ["steps=4", "tta_k=5", "test", "failed", "0", "+", "4", "errors"]


def test_a_run_that_nobody_is_at_work_on_any_more_was_killed(tmp_path: Path) -> None:
    run = make_run(tmp_path, "json-tta-1", manifest={"status": "running"})
    assert "killed" in listing(tmp_path)[1]
    with run.claimed():
        assert "running" in listing(tmp_path)[1]


BROKEN = {
    "no configuration": ("holds no config.yaml", {"notes.txt": "mine"}),
    "another configuration": ("config.yaml lacks model.name, task.name, sampler.name, split, steps", {"config.yaml": "a: 1"}),
    "no mapping": ("cannot be read", {"config.yaml": "just words"}),
    "no yaml": ("cannot be read", {"config.yaml": "a: ["}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_is_no_run_has_a_line_that_says_why(name: str, tmp_path: Path) -> None:
    reason, files = BROKEN[name]
    make_run(tmp_path, "json-tta-1")
    (tmp_path / "runs" / "odd").mkdir()
    for file, text in files.items():
        (tmp_path / "runs" / "odd" / file).write_text(text)
    lines = listing(tmp_path)
    assert lines[1].startswith("json-tta-1")
    assert lines[2].startswith("note: ")
    assert "odd" in lines[2]
    assert reason in " ".join(lines[2:])


@pytest.mark.parametrize("file", ["records.jsonl", "manifest.json"])
def test_a_run_with_a_broken_file_has_a_line_that_says_why(file: str, tmp_path: Path) -> None:
    make_run(tmp_path, "json-tta-1")
    (make_run(tmp_path, "json-tta-2").path / file).write_text("{broken\n")
    lines = listing(tmp_path)
    assert lines[1].startswith("json-tta-1")
    assert "json-tta-2" in lines[2]
    assert lines[2].startswith("note: ")


def test_no_runs_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "runs").mkdir()
    assert cli.main(["ls", str(tmp_path)]) == 2
    assert "runs: holds no runs yet" in capsys.readouterr().err


@pytest.mark.parametrize("width", [120, 80])
def test_it_fits_the_terminal_and_names_runs_whole(width: int, tmp_path: Path) -> None:
    names = ["arithmetic-dream_maskgit_plus-0123456789ab", "json-tta-2"]
    make_run(tmp_path, names[0], task="arithmetic", sampler="dream_maskgit_plus", manifest={"status": "interrupted"})
    make_run(tmp_path, names[1], lambda *_: ValueError("no"), sampler_tta_temperature_range=[0.0, 0.3])
    lines = listing(tmp_path, width)
    assert all(len(line.rstrip()) <= width for line in lines)
    assert all(any(line.startswith(name) for line in lines) for name in names)


def test_runs_of_version_1_are_listed() -> None:
    data = Path(__file__).parents[1] / "runner" / "data" / "version_1"
    lines = listing(data)
    assert [line.split()[0] for line in lines] == ["run", "json-low_confidence-bf7f50157a5b", "json-tta-2524ded153f1"]
    assert not (data / "locks").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (-5, "just now"),
        (61, "1 min ago"),
        (7200, "2 h ago"),
        (86_400, "1 day ago"),
        (9 * 86_400, "9 days ago"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert ls.age((moment - timedelta(seconds=seconds)).isoformat(), moment) == text
    assert ls.age(None, moment) == ""


def test_listing_leaves_the_runs_as_they_are(tmp_path: Path) -> None:
    run = make_run(tmp_path, "json-tta-1")
    with (run.path / "records.jsonl").open("a") as stream:
        stream.write('{"torn')
    before = (run.path / "records.jsonl").read_bytes()
    listing(tmp_path)
    assert (RunFolder(run.path).path / "records.jsonl").read_bytes() == before
