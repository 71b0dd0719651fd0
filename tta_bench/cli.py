"""The command line, and the only file that knows Hydra."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console

    from tta_bench.analysis.load import Study
    from tta_bench.analysis.plan import TestPlan
    from tta_bench.runner.settings import Comparison

HELP = """\
tta_bench: decoding strategies of masked diffusion language models, compared fairly.

  tta-bench run [KEY=VALUE ...]           baseline and candidate on a task's problems; resumes; ends with the table
  tta-bench run -m KEY=V1,V2,... ...      the same for every combination of values (a sweep)
  tta-bench run experiment=demo           a saved study
  tta-bench analyze [DIR] [KEY=VALUE ...] the table, figures and report again, from what is on disk; needs no model
  tta-bench --version

DIR is a report folder, or an output folder (default: outputs). Some keys, with their defaults:

  task=sudoku             sudoku, listops, arithmetic, json
  sampler=tta             {samplers}
                          (parameters: sampler.tta_k=5 ...; what they do: docs/samplers.md)
  baseline=low_confidence any sampler
  steps=8                 denoising steps of all samplers that use them; sweep it to compare whole curves
  n_problems=100 split=dev replicates=1 seed=0 eos_policy=allow constraint=none output_dir=outputs name=default

  tta-bench run --cfg job                 every key with its value
  tta-bench run --info defaults-tree      where each comes from
"""

COMMANDS = ("run", "analyze")
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 refused, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if words[0] == "--version":
        from tta_bench import __version__

        print(__version__)
        return 0
    command, rest = words[0], [grouped(word) for word in words[1:]]
    if command not in COMMANDS:
        from tta_bench.catalog import unknown

        return refuse(unknown("command", command, COMMANDS))
    if rest and rest[0] in ("-h", "--help"):
        print(help_text())
        return 0
    try:
        return run(rest) if command == "run" else analyze(rest)
    except KeyboardInterrupt:
        print(f"\ninterrupted; nothing finished is lost. Go on with: tta-bench {' '.join(words)}", file=sys.stderr)
        return INTERRUPTED


def help_text() -> str:
    """The help, with the names of the samplers."""
    import textwrap

    from tta_bench import catalog

    names = textwrap.wrap(", ".join(catalog.names("sampler")), width=94)
    return HELP.replace("{samplers}", ("\n" + " " * 26).join(names))


def grouped(word: str) -> str:
    """``baseline=NAME`` as Hydra wants to hear it: the group ``sampler``, placed at ``baseline``."""
    return re.sub(r"^baseline=", "sampler@baseline=", word)


def refuse(message: object) -> int:
    """Say what is wrong with the input, on standard error."""
    print(f"tta-bench: {message}", file=sys.stderr)
    return BAD_INPUT


def run(words: list[str]) -> int:
    """``tta-bench run``: plan and check everything, do it through Hydra's launcher, report."""
    shows_only = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--resolve", "--package", "-p", "--shell-completion", "-sc")
    if any(word.split("=")[0] in shows_only for word in words):
        launch(words)
        return 0
    overrides = [word for word in words if word not in ("-m", "--multirun")]
    from dataclasses import asdict

    from tta_bench.models.checkpoint import CheckpointError
    from tta_bench.runner.settings import check_folders
    from tta_bench.runner.study import write_study

    try:
        jobs, multirun = expand(overrides, multirun=len(overrides) < len(words))
        configs = [compose(job) for job in jobs]
        comparisons = [read(config) for config in configs]
        plans = {test_plan(config) for config in configs}
        if len(plans) > 1:
            raise ConfigurationError("analysis: its settings are fixed before a study; sweep something else")
        check_folders(comparisons[0])
        report_dir = write_study(comparisons, asdict(plans.pop()))
    except (ConfigurationError, CheckpointError, ValueError) as error:
        return refuse(error)
    console = make_console()
    console.print(announcement(comparisons), highlight=False)
    launch([*(["--multirun"] if multirun else []), *deferred(overrides)])
    from tta_bench.analysis.load import AnalysisError, load_study
    from tta_bench.runner.store import StoreError

    try:
        return report(load_study(report_dir), report_dir, test_plan(configs[0]), console)
    except (AnalysisError, StoreError) as error:
        refuse(error)
        return FAILED


def deferred(overrides: Sequence[str]) -> list[str]:
    """The overrides, with a fixed parameter of a group that is swept as a choice of one.

    Hydra composes a sweep's fixed overrides with the default entry of the group first, which need not have the parameter.
    """
    swept = {match[1] for word in overrides if (match := re.match(r"(?:sampler@)?(sampler|baseline|task)=[^=]*,", word))}
    words = []
    for word in overrides:
        match = re.match(r"(sampler|baseline|task)\.[^=]+=", word)
        # Sweeps stay as they are; Hydra's choice cannot hold null.
        defers = match and match[1] in swept and not re.search(r"=(choice|range|glob)\(|,(?![^\[]*\])|=null$", word)
        words.append(re.sub(r"=(.*)", r"=choice(\1)", word, count=1) if defers else word)
    return words


def announcement(comparisons: Sequence[Comparison]) -> str:
    """What is about to be done, in a line."""
    from tta_bench.runner.study import count_done

    runs = {spec.run_id: c for c in comparisons for spec in c.runs}
    pairs = {pair for c in comparisons for pair in c.pairs}
    first = comparisons[0]
    size = first.n_problems * first.replicates
    done = sum(count_done(run_id, c) for run_id, c in runs.items())
    reused = f"\n{done:,} of {len(runs) * size:,} answers are in {first.output_dir}/runs already" if done else ""
    return (
        f"{first.name}: {len(pairs)} comparison(s), {len(runs)} runs of {first.n_problems} problems x {first.replicates} "
        f"replicate(s) on {first.candidate.split}, model {first.model_name}{reused}"
    )


def analyze(words: list[str]) -> int:
    """``tta-bench analyze``: report on a folder of runs."""
    from dataclasses import replace

    from tta_bench.analysis.load import AnalysisError, load_study
    from tta_bench.runner.store import StoreError

    folders = [word for word in words if "=" not in word]
    if len(folders) > 1:
        return refuse(f"analyze takes one folder, got {', '.join(folders)}")
    try:
        config = compose([word for word in words if "=" in word])
        folder = Path(folders[0] if folders else config["output_dir"])
        study = load_study(folder, str(config["baseline"]["_target_"]).rsplit(".", 1)[1])
        given = any(word.startswith("report_dir=") for word in words)
        default = folder if (folder / "study.json").is_file() else folder / "reports" / "all"
        replanned = any(word.startswith("analysis") for word in words)
        plan = study.plan if study.plan and not replanned else test_plan(config)
        if study.plan and plan != study.plan:
            note = f"analysis settings differ from those fixed before the runs ({study.plan})"
            study = replace(study, excluded=(*study.excluded, note))
        return report(study, Path(config["report_dir"]) if given else default, plan, make_console())
    except (AnalysisError, StoreError, ConfigurationError, ValueError) as error:
        return refuse(error)


def report(study: Study, folder: Path, plan: TestPlan, console: Console) -> int:
    """Write the report of a study and print what a reader wants to see first."""
    from tta_bench.analysis.report import write_report
    from tta_bench.analysis.tables import print_table

    written = write_report(study, folder, plan)
    console.print()
    print_table(written.summary, console, title=study.name, note=written.note)
    for sentence in study.excluded:
        console.print(f"note: {sentence}", style="yellow", soft_wrap=True)
    console.print(
        f"\nreport   {written.page}\ntables   {folder}/summary.csv, .md, .tex\nfigures  {folder}/figures/", soft_wrap=True
    )
    return 0


def test_plan(config: dict[str, Any]) -> TestPlan:
    """The analysis group of the configuration, checked."""
    from tta_bench.analysis.plan import TestPlan
    from tta_bench.catalog import coerce

    return TestPlan(**coerce("analysis", TestPlan, config["analysis"]))


def make_console() -> Console:
    """A console on standard output, 120 columns wide where it is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


class ConfigurationError(ValueError):
    """Hydra cannot compose what was asked for; the message is made for people."""


def expand(overrides: list[str], *, multirun: bool) -> tuple[list[list[str]], bool]:
    """The overrides of every job of a sweep (Hydra's basic sweeper), or of the only job; and whether it is a sweep."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    try:
        parsed = parser.parse_overrides(overrides)
        fixed = [word for word, part in zip(overrides, parsed, strict=True) if not part.is_sweep_override()]
        if not multirun and len(fixed) < len(overrides):
            raise ConfigurationError(f"{next(w for w in overrides if w not in fixed)}: several values need a sweep; add -m")
        # The other overrides may fit only what a sweep chooses, as sampler.threshold=0.5 fits sampler=threshold,t2m.
        about_the_sweep = [word for word in fixed if re.match(r"\+?(experiment=|hydra[./@])", word)]
        hydra = compose(about_the_sweep, with_hydra=True)["hydra"]
        multirun = multirun or hydra["mode"] == "MULTIRUN"
        saved = [f"{key}={value}" for key, value in (hydra["sweeper"].get("params") or {}).items()]
        if not multirun:
            return [overrides], False
        batches = BasicSweeper.split_arguments(parser.parse_overrides([*saved, *overrides]), None)
    except HydraException as error:
        raise ConfigurationError(explain(str(error), overrides)) from error
    return [list(job) for job in batches[0]], True


def compose(overrides: list[str], *, with_hydra: bool = False) -> dict[str, Any]:
    """The resolved configuration for ``overrides``, as plain values.

    Raises:
        ConfigurationError: an unknown group choice or key, or a value that cannot be read.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("tta_bench.conf", version_base="1.3"):
            config = hydra_compose("config", overrides, return_hydra_config=with_hydra)
            if with_hydra:
                hydra = config.hydra
                mode = hydra.mode.name if hydra.mode else None
                return {"hydra": {"mode": mode, "sweeper": OmegaConf.to_container(hydra.sweeper)}}
            found = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(explain(str(error), overrides)) from error
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def explain(message: str, overrides: Sequence[str]) -> str:
    """Hydra's message, with the nearest existing name where one was misspelt."""
    from tta_bench.catalog import names, no_parameter, unknown

    choice = re.search(r"Could not find '(\w+)/([^']*)'", message)
    if choice:
        group, name = choice.groups()
        hint = "; for a checkpoint folder or hub id use model.name_or_path=..." if group == "model" else ""
        return unknown(group, name, names(group)) + hint
    key = re.search(r"Could not override '([^']+)'", message)
    if key:
        parent, _, name = key.group(1).rpartition(".")
        chosen = [word for word in overrides if re.match(r"(sampler|sampler@baseline|task|model)=\w+$", word)]
        keys: Any = compose(chosen) if chosen != list(overrides) else {}
        for part in parent.split(".") if parent else []:
            keys = keys.get(part) if isinstance(keys, dict) else None
        if isinstance(keys, dict) and "_target_" in keys:
            group = "task" if parent == "task" else "sampler"
            chosen_name = str(keys["_target_"]).rpartition(".")[2]
            return no_parameter(group, chosen_name, name, tuple(k for k in keys if k != "_target_"))
        if isinstance(keys, dict):
            return unknown(f"key under {parent}" if parent else "key", name, tuple(k for k in keys if k != "_target_"))
    return message.strip().replace("\n", " ")


def read(config: dict[str, Any]) -> Comparison:
    """The comparison that a configuration describes, checked."""
    from tta_bench.runner.settings import comparison

    return comparison(config)


def launch(words: list[str]) -> None:
    """Hand the overrides to Hydra, whose launcher calls ``job`` for each combination."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    given = sys.argv
    sys.argv = ["tta-bench", *words]
    try:
        hydra.main(config_path="pkg://tta_bench.conf", config_name="config", version_base="1.3")(job)()
    finally:
        sys.argv = given


def job(config: DictConfig) -> None:
    """One comparison, in whatever process the launcher chose."""
    from functools import partial

    from omegaconf import OmegaConf

    from tta_bench.runner.progress import tracked
    from tta_bench.runner.study import run_comparison

    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    run_comparison(read({str(key): value for key, value in plain.items()}), partial(tracked, make_console()))


if __name__ == "__main__":
    sys.exit(main())
