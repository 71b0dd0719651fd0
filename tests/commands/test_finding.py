"""What all commands on runs share: words, names of runs, and that they need no model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.runs import make_run, right_up_to
from tta_bench import cli
from tta_bench.commands.find import find_run, problem_scores, read_run, reports_on, score_text, size_of
from tta_bench.tasks.base import Problem


def test_a_run_is_found_by_its_name_or_an_unambiguous_beginning(tmp_path: Path) -> None:
    for name in ("json-tta-12", "json-tta-123", "json-random-1"):
        make_run(tmp_path, name, n_problems=0)
    assert find_run(tmp_path, "json-r").path.name == "json-random-1"
    assert find_run(tmp_path, "json-tta-12").path.name == "json-tta-12"  # a whole name, though another begins so
    with pytest.raises(ValueError, match=r"2 runs in .* begin so; give more of the name:\n  json-tta-12\n  json-tta-123"):
        find_run(tmp_path, "json-tta")
    with pytest.raises(ValueError, match="begins so; did you mean json-random-1"):
        find_run(tmp_path, "json-rendom")


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    make_run(tmp_path, "json-tta-1", n_problems=0)
    with pytest.raises(ValueError, match="no run"):
        find_run(tmp_path, "json*")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "json"], "ls: unknown word 'json', which is no folder either; usage: tta-bench ls [DIR]"),
        (["ls", "--long"], "ls: unknown option '--long'; usage: tta-bench ls [DIR]"),
        (["ls", "empty"], "empty: holds no runs/ folder"),
        (["ls", "not/there"], "not/there: holds no runs/ folder"),
        (["ls"], "outputs: holds no runs/ folder"),
        (["show", "out"], "show: takes 1 run(s), got none; usage: tta-bench show RUN [DIR]"),
        (["show", "a", "b", "c", "out"], "show: takes 1 run(s), got a, b, c"),
        (["show", "a", "empty"], "empty: holds no runs/ folder"),
        (["show", "nothing", "out"], "run 'nothing': no run in out/runs begins so; known: json-tta-1"),
        (["explain", "json", "out"], "explain: takes 2 run(s), got json; usage: tta-bench explain RUN_A RUN_B [DIR] [--all]"),
        (["explain", "json", "json", "out"], "json-tta-1: is both RUN_A and RUN_B"),
        (["explain", "json", "json", "out", "--al"], "explain: unknown option '--al'"),
        (["score", "out"], "score: names no run; usage: tta-bench score RUN ... [DIR]"),
        (["score", "json", "nothing", "out"], "run 'nothing'"),
        (["clean", "--yes", "out"], "clean: unknown option '--yes'; usage: tta-bench clean [RUN ...] [DIR]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_mean_nothing_are_refused_with_what_is_allowed(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("out"), "json-tta-1", n_problems=1)
    Path("empty").mkdir()
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


def test_scores_are_averaged_over_replicates_before_problems(tmp_path: Path) -> None:
    def answer(problem: Problem, number: int, replicate: int) -> str | Exception:
        return ValueError("lost") if (number, replicate) == (0, 1) else problem.target if number == 0 else "{}"

    run = read_run(make_run(tmp_path, "a", answer, n_problems=2, replicates=2))
    assert problem_scores(run).tolist() == [1.0, 0.0]
    assert score_text(problem_scores(run)) == "50.0 [-585.3, 685.3]"  # t with one degree of freedom
    assert score_text(problem_scores(read_run(make_run(tmp_path, "b", n_problems=0)))) == ""


def test_a_size_counts_files_below_and_not_where_links_lead(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 1000)
    (tmp_path / "run" / "traces").mkdir(parents=True)
    (tmp_path / "run" / "traces" / "a").write_bytes(b"x" * 10)
    assert size_of(tmp_path / "run") == 10
    (tmp_path / "run" / "link").symlink_to(tmp_path / "big")
    assert size_of(tmp_path / "run") < 1000


def test_a_study_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "reports" / "x" / "study.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"pairs": [["a", "b"]]}')
    assert reports_on(tmp_path, "b") == [file.parent]
    assert reports_on(tmp_path, "c") == []
    file.write_text("{")
    with pytest.raises(ValueError, match=r"study\.json: is no study"):
        reports_on(tmp_path, "b")


def test_none_of_the_commands_loads_a_model_or_torch(tmp_path: Path) -> None:
    make_run(tmp_path, "json-tta-1")
    make_run(tmp_path, "json-random-1", right_up_to(2), sampler="random")
    code = (
        "import sys\n"
        "from tta_bench.cli import main\n"
        "folder = sys.argv[1]\n"
        "runs = ['json-tta', 'json-random']\n"
        "for words in (['ls'], ['show', runs[0]], ['explain', *runs], ['score', *runs], ['clean', *runs]):\n"
        "    assert main([*words, folder]) == 0, words\n"
        "    found = {'torch', 'transformers'} & sys.modules.keys()\n"
        "    assert not found, (words, found)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, input="y\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "only A solved: 2" in done.stdout
    assert list((tmp_path / "runs").iterdir()) == []
