"""The command line, and the only file that knows Hydra."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console

    from tta_bench.analysis.plan import Allowances, TestPlan
    from tta_bench.commands.elsewhere import Engine, Outcome
    from tta_bench.commands.run import Asked
    from tta_bench.runner.ranks import Crew
    from tta_bench.runner.settings import Comparison
    from tta_bench.tuning.space import Dimension, Space

HELP = """\
tta_bench: decoding strategies of masked diffusion language models, compared fairly.

  tta-bench run [KEY=VALUE ...]           baseline and candidate on a task's problems; resumes; ends with the table
  tta-bench run -m KEY=V1,V2,... ...      the same for every combination of values (a sweep)
  tta-bench run -m hydra/launcher=joblib  a sweep in several processes; also slurm, slurm_local, ray (docs/scaling.md)
  tta-bench run experiment=demo           a saved study
  tta-bench run --fresh ...               does everything again; what was there is moved to OUTPUT_DIR/replaced
  tta-bench plan [-m] [KEY=VALUE ...]     what run would do: runs, forward passes, time, minimum detectable effect
  tta-bench tune KEY=V1,V2,... ...        search settings on dev, the best is confirmed on test; resumes (docs/tune.md)
  tta-bench analyze [DIR] [KEY=VALUE ...] the table, figures and report again, from what is on disk; needs no model
  tta-bench ls [DIR]                      runs on disk and how far they are
  tta-bench show RUN [DIR]                all about one run, errors included; the beginning of its name will do
  tta-bench explain RUN_A RUN_B [DIR]     what two runs differ in, and the problems that only one of them solved
  tta-bench score RUN ... [DIR]           scores again what was generated, without a model
  tta-bench likelihood [KEY=VALUE ...]    how often a task's right choice is the most probable one; resumes
  tta-bench likelihood --compare A B      two of these, paired; the beginnings of their names will do, DIR may follow
  tta-bench perplexity RUN ... [DIR]      how probable its model, or model=ANOTHER, finds a run's answers
  tta-bench analyze paper=true [STUDIES]  tables and figures of all studies below a folder (default: experiments) into one
  tta-bench export RUN ... [DIR] --to FOLDER  runs as logs of Inspect, for inspect view
  tta-bench push OWNER/NAME [DIR] ...     publishes runs as a data set, or writes it: --to FOLDER (docs/publishing.md)
  tta-bench doctor [KEY=VALUE ...]        checks this machine, the model and the harness itself
  tta-bench clean [RUN ...] [DIR]         lists what can go, asks, deletes
  tta-bench --version

run, analyze and ls know --json: what was found as JSON on standard output, all else on standard error.

DIR is an output folder (default: outputs), for analyze also a report folder. Some keys, with their defaults:

  task=sudoku             sudoku, listops, arithmetic, json
  sampler=tta             {samplers}
                          (parameters: sampler.tta_k=5 ...; what they do: docs/samplers.md)
  constraint=none         {constraints}
                          (parameters: constraint.n=4 ...; what they do: docs/constraints.md)
  baseline=low_confidence any sampler
  steps=8                 denoising steps of all samplers that use them; sweep it to compare whole curves
  n_problems=100 split=dev replicates=1 seed=0 eos_policy=allow output_dir=outputs name=default
  batch_size=auto max_failures=10 time_limit=null select=null

  tta-bench run --cfg job                 every key with its value
  tta-bench run --info defaults-tree      where each comes from

Exit codes: 0 done, 1 failed or incomplete, 2 refused, 130 interrupted.
"""

COMMANDS = (
    "run", "plan", "tune", "analyze", "ls", "show", "explain", "score", "likelihood", "perplexity", "export", "push", "doctor",
    "clean",
)  # fmt: skip
KNOW_JSON = ("run", "analyze", "ls")
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed or incomplete, 2 refused, 130 interrupted."""
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
    as_json, rest = "--json" in rest, [word for word in rest if word != "--json"]
    if as_json and command not in KNOW_JSON:
        return refuse(f"--json: {command} does not know it; {', '.join(KNOW_JSON)} do")
    from contextlib import nullcontext

    from tta_bench.runner.stopping import terminable

    own = {
        "run": run, "plan": plan, "tune": tune, "analyze": analyze, "likelihood": likelihood, "perplexity": perplexity,
        "push": push, "doctor": doctor,
    }  # fmt: skip
    does = own.get(command, partial(on_disk, command))
    try:
        with terminable(), json_printed() if as_json else nullcontext():
            return does(rest)
    except KeyboardInterrupt:
        # Going on must not start afresh.
        again = shlex.join(["tta-bench", *(word for word in words if word != "--fresh")])
        print(f"\ninterrupted; nothing finished is lost. Go on with: {again}", file=sys.stderr)
        return INTERRUPTED


def json_printed() -> AbstractContextManager[None]:
    """What people read goes to standard error, and JSON to standard output."""
    from tta_bench.commands.machine import json_on_stdout

    return json_on_stdout()


def help_text() -> str:
    """The help, with the names of samplers and constraints."""
    import textwrap

    from tta_bench import catalog

    text = HELP
    for group in ("sampler", "constraint"):
        names = textwrap.wrap(", ".join(catalog.names(group)), width=94)
        text = text.replace(f"{{{group}s}}", ("\n" + " " * 26).join(names))
    return text


def grouped(word: str) -> str:
    """``baseline=NAME`` as Hydra wants to hear it: the group ``sampler``, placed at ``baseline``."""
    return re.sub(r"^baseline=", "sampler@baseline=", word)


def refuse(message: object) -> int:
    """Say what is wrong with the input, on standard error."""
    print(f"tta-bench: {message}", file=sys.stderr)
    return BAD_INPUT


SHOWS_ONLY = ("--cfg", "-c", "--info", "-i", "--hydra-help", "--resolve", "--package", "-p", "--shell-completion", "-sc")


def understand(words: Sequence[str], *more: str, crew: Crew | None = None) -> Asked:
    """Compose and check every combination of overrides, so that a mistake in the last one costs nothing.

    Raises:
        ValueError: something is not as it must be; the message names the key, the value and the rule.
    """
    from tta_bench.commands.elsewhere import engine_of
    from tta_bench.commands.run import Asked

    overrides = [word for word in words if word not in ("-m", "--multirun")]
    jobs, multirun, launcher = expand(overrides, multirun=len(overrides) < len(words))
    configs = [compose([*job, *more]) for job in jobs]
    engine = engine_of(launcher, multirun=multirun, device=str(configs[0]["device"]))
    if crew:
        check_crew(configs, engine)
    comparisons = [read(config, here=engine is None or engine.near) for config in configs]
    tests = {test_plan(config) for config in configs}
    focus = {plan.focus for plan in tests} - {None}
    samplers = tuple(sorted({spec.sampler.name for found in comparisons for spec in found.runs}))
    if not focus <= set(samplers):
        raise ConfigurationError(f"analysis.focus={focus.pop()}: is no sampler of this study; it has {', '.join(samplers)}")
    allowed = {allowances(config) for config in configs}
    if len(tests) > 1 or len(allowed) > 1:
        raise ConfigurationError("analysis: its settings are fixed before a study; sweep something else")
    rules = {config["select"] for config in configs}
    if len(rules) > 1 or not rules <= {None, "best_on_dev"}:
        raise ConfigurationError(f"select={', '.join(map(str, rules))}: must be best_on_dev, or null to report all")
    sweep = ["--multirun"] if multirun else []

    def send(chosen: Sequence[int] | None, last_round: bool) -> list[Outcome]:
        # Jobs of a sweep say all that is swept, so that what a saved study sweeps must not be multiplied with it again.
        settled = ["hydra.sweeper.params=null"] if multirun else []
        whole = [[*sweep, *deferred(overrides), *more]]
        words = whole if chosen is None else [[*sweep, *jobs[i], *more, *settled] for i in chosen]
        if engine:
            does = last_job_elsewhere if last_round else job_elsewhere
            return [outcome for sent in words for outcome in launch_elsewhere(sent, does, engine)]
        for sent in words:
            launch(sent, last_job if last_round else job)
        return []

    return Asked(tuple(comparisons), tests.pop(), allowed.pop(), rules.pop(), send, engine, crew)


def check_crew(configs: Sequence[dict[str, Any]], engine: Engine | None) -> None:
    """Refuse what processes that share every run cannot do.

    Raises:
        ConfigurationError: a launcher besides, or one device for all of them.
    """
    if engine:
        raise ConfigurationError(
            f"hydra/launcher={engine.name}: accelerate or torchrun has started several processes that share every run already; "
            "use one or the other"
        )
    for config in configs:
        if ":" in str(config["device"]):
            raise ConfigurationError(f"device={config['device']}: each process takes the GPU of its own rank; give device=cuda")
        if config["model"]["device_map"]:
            raise ConfigurationError(
                f"model.device_map={config['model']['device_map']}: each process has one GPU; start a single process"
            )


def run(words: list[str]) -> int:
    """``tta-bench run``, alone or as one of several processes that share every run."""
    if "LOCAL_RANK" not in os.environ:
        return run_alone(words)
    from tta_bench.runner.ranks import Crew, follow, ranks_here
    from tta_bench.runner.stopping import stop_requests

    try:
        ranks = ranks_here()
    except ValueError as error:
        return refuse(error)
    if ranks is None:
        return run_alone(words)
    if ranks.rank == 0:
        crew = Crew(ranks, [])
        try:
            return run_alone(words, crew)
        finally:
            crew.dismiss()
    from tta_bench.runner.threads import limit_threads

    limit_threads()
    try:
        with stop_requests(lambda _: None) as check_stop:
            follow(ranks, check_stop)
    except KeyboardInterrupt:  # rank 0 says what there is to say
        return INTERRUPTED
    return 0


def run_alone(words: list[str], crew: Crew | None = None) -> int:
    """Plan and check everything, do it through Hydra's launcher or with the help of a crew, report."""
    if any(word.split("=")[0] in SHOWS_ONLY for word in words):
        launch(words, job)
        return 0
    from tta_bench.analysis.load import AnalysisError
    from tta_bench.commands.run import run_all, run_selected
    from tta_bench.runner.disk import StoreError

    fresh, words = "--fresh" in words, [word for word in words if word != "--fresh"]
    try:
        asked, console = understand(words, crew=crew), make_console()
        if not asked.select:
            return run_all(asked, console, fresh=fresh)
        if any(comparison.candidate.split == "train" for comparison in asked.comparisons):
            raise ConfigurationError("split=train: select=best_on_dev chooses on dev and reports on test; leave split out")
        dev, test = (understand(words, f"split={split}", crew=crew) for split in ("dev", "test"))
        return run_selected(dev, test, console, fresh=fresh)
    except (AnalysisError, StoreError) as error:
        refuse(error)
        return FAILED
    except ValueError as error:
        return refuse(error)


def deferred(overrides: Sequence[str]) -> list[str]:
    """The overrides, with a fixed parameter of a group that is swept as a choice of one.

    Hydra composes a sweep's fixed overrides with the default entry of the group first, which need not have the parameter.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    groups = "(sampler|baseline|task|constraint)"
    swept = {match[1] for word in overrides if (match := re.match(rf"(?:sampler@)?{groups}=[^=]*,", word))}
    parser = OverridesParser.create()
    words = []
    for word in overrides:
        match = re.match(rf"{groups}\.[^=]+=", word)
        # Sweeps stay as they are; Hydra's choice cannot hold null.
        alone = match and match[1] in swept and not word.endswith("=null")
        defers = alone and not parser.parse_override(word).is_sweep_override()
        words.append(re.sub(r"=(.*)", r"=choice(\1)", word, count=1) if defers else word)
    return words


def plan(words: list[str]) -> int:
    """``tta-bench plan``: what run would do."""
    from tta_bench.commands.plan import print_plan
    from tta_bench.runner.disk import StoreError

    try:
        words = [word for word in words if word != "--fresh"]
        asked = understand(words)
        if asked.engine and not asked.engine.near:
            raise ConfigurationError(
                f"hydra/launcher={asked.engine.name}: plan tries a few problems in this process; leave the launcher out, on a "
                "machine like those of the jobs"
            )
        print_plan(understand(words, "split=dev") if asked.select else asked, make_console())
    except (ValueError, StoreError) as error:
        return refuse(error)
    return 0


def tune(words: list[str]) -> int:
    """``tta-bench tune``: what is swept is searched, on dev; the best setting is confirmed on test."""
    from tta_bench.commands.tune import tune, tuning
    from tta_bench.runner.disk import StoreError
    from tta_bench.runner.threads import limit_threads
    from tta_bench.tuning.search import check_installed

    limit_threads()
    try:
        check_installed()
        fixed, space = searched([word for word in words if word not in ("-m", "--multirun")])

        def composed(more: tuple[str, ...]) -> dict[str, Any]:
            return compose(["+tune=default", *fixed, *more])

        config = composed(tuple(word for word in space.first if word.startswith("sampler=")))
        return tune(tuning(space, composed, config, test_plan(config), allowances(config)), make_console())
    except StoreError as error:
        refuse(error)
        return FAILED
    except ValueError as error:
        return refuse(error)


def searched(words: Sequence[str]) -> tuple[list[str], Space]:
    """The overrides that fix a key, and what the others search: choices, ranges and intervals, those of a saved study included.

    Raises:
        ValueError: a word is no override, or holds what cannot be searched.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from tta_bench.tuning.space import Space

    studies = [word for word in words if re.match(r"\+?(experiment=|hydra[./@])", word)]
    saved = (compose(studies, with_hydra=True)["hydra"]["sweeper"].get("params") or {}) if studies else {}
    given = {word.partition("=")[0] for word in words}
    every = [*(f"{key}={value}" for key, value in saved.items() if key not in given), *words]
    try:
        parsed = OverridesParser.create().parse_overrides(every)
    except HydraException as error:
        raise ConfigurationError(explain(str(error), every)) from error
    fixed = [word for word, part in zip(every, parsed, strict=True) if not part.is_sweep_override()]
    return fixed, Space(tuple(dimension(word, part) for word, part in zip(every, parsed, strict=True) if word not in fixed))


def dimension(word: str, override: Any) -> Dimension:
    """What a swept override searches."""
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

    from tta_bench.tuning.space import Choice, Range, range_of

    key, value = word.partition("=")[0], override.value()
    if isinstance(value, ChoiceSweep):
        return Choice(key, tuple(override.sweep_string_iterator()))
    if isinstance(value, RangeSweep):
        return range_of(key, value.start, value.stop, value.step)
    if isinstance(value, IntervalSweep):
        return Range(key, value.start, value.end, 1 if isinstance(value.start, int) else None, log="log" in value.tags)
    raise ConfigurationError(f"{word}: can be swept, but not searched; write the values out, as {key}=A,B")


def doctor(words: list[str]) -> int:
    """``tta-bench doctor``: checks of machine, model and harness."""
    from tta_bench.commands.doctor import examine

    try:
        comparison = read(compose(words))
        return 0 if examine(comparison, make_console()) else FAILED
    except ValueError as error:
        return refuse(error)


def on_disk(command: str, words: list[str]) -> int:
    """The commands that look at, or change, what is on disk, and need neither a model nor a configuration."""
    from importlib import import_module

    from tta_bench.runner.disk import StoreError

    last = words[-1] if words and words[-2:-1] != ["--to"] else ""
    folder = Path(words.pop() if last and Path(last).joinpath("runs").is_dir() else "outputs")
    try:
        code: int = import_module(f"tta_bench.commands.{command}").main(folder, words, make_console())
    except (ValueError, StoreError) as error:
        return refuse(error)
    return code


def likelihood(words: list[str]) -> int:
    """``tta-bench likelihood``: choices by their likelihood, done or compared."""
    from tta_bench.analysis.choices import checked_rules
    from tta_bench.commands.likelihood import compare, run_likelihood
    from tta_bench.runner.disk import StoreError

    given = [word for word in words if "=" in word]
    others = [word for word in words if "=" not in word]
    try:
        config = compose(given, name="likelihood")
        rules = checked_rules(config["normalise"])
        if others[:1] == ["--compare"]:
            return compare(Path(config["output_dir"]), others[1:], rules, make_console())
        if others:
            raise ConfigurationError(f"likelihood: unknown word {others[0]!r}; it takes KEY=VALUE, or --compare A B [DIR]")
        return run_likelihood(config, rules, make_console())
    except StoreError as error:
        refuse(error)
        return FAILED
    except ValueError as error:
        return refuse(error)


def perplexity(words: list[str]) -> int:
    """``tta-bench perplexity``: how probable a model finds the answers of runs."""
    from tta_bench.commands.perplexity import judge_runs
    from tta_bench.runner.disk import StoreError

    try:
        config = compose([word for word in words if "=" in word], name="perplexity")
        return judge_runs(Path("outputs"), [word for word in words if "=" not in word], config, make_console())
    except StoreError as error:
        refuse(error)
        return FAILED
    except ValueError as error:
        return refuse(error)


def push(words: list[str]) -> int:
    """``tta-bench push``: runs as a data set."""
    from tta_bench.commands.push import main
    from tta_bench.runner.disk import StoreError

    try:
        return main(words, make_console())
    except (ValueError, StoreError) as error:
        return refuse(error)


def analyze(words: list[str]) -> int:
    """``tta-bench analyze``: report on a folder of runs."""
    from dataclasses import replace

    from tta_bench.analysis.load import load_study
    from tta_bench.commands.report import print_report
    from tta_bench.runner.disk import StoreError

    folders = [word for word in words if "=" not in word]
    if len(folders) > 1:
        return refuse(f"analyze takes one folder, got {', '.join(folders)}")
    try:
        config = compose([word for word in words if "=" in word])
        if config["paper"]:
            return paper(folders, words, config)
        folder = Path(folders[0] if folders else config["output_dir"])
        study = load_study(folder, str(config["baseline"]["_target_"]).rsplit(".", 1)[1], allowances(config))
        given = any(word.startswith("report_dir=") for word in words)
        default = folder if (folder / "study.json").is_file() else folder / "reports" / "all"
        replanned = any(re.match(r"analysis[=.](?!allow_)", word) for word in words)
        tests = study.plan if study.plan and not replanned else test_plan(config)
        if study.plan and tests != study.plan:
            note = f"analysis settings differ from those fixed before the runs ({study.plan})"
            study = replace(study, excluded=(*study.excluded, note))
        return print_report(study, Path(config["report_dir"]) if given else default, tests, make_console())
    except (StoreError, ValueError) as error:
        return refuse(error)


def paper(folders: Sequence[str], words: Sequence[str], config: dict[str, Any]) -> int:
    """``tta-bench analyze paper=true``: every study below a folder."""
    from tta_bench.commands.paper import print_paper

    given = any(word.startswith("report_dir=") for word in words)
    target = Path(config["report_dir"]) if given else Path(config["output_dir"]) / "paper"
    return print_paper(Path(folders[0] if folders else "experiments"), target, make_console())


def test_plan(config: dict[str, Any]) -> TestPlan:
    """The analysis group of the configuration, checked."""
    from tta_bench.analysis.plan import TestPlan
    from tta_bench.catalog import coerce

    node = {key: value for key, value in config["analysis"].items() if not key.startswith("allow_")}
    return TestPlan(**coerce("analysis", TestPlan, node))


def allowances(config: dict[str, Any]) -> Allowances:
    """What the analysis group of the configuration allows."""
    from tta_bench.analysis.plan import Allowances
    from tta_bench.catalog import coerce

    node = {key.removeprefix("allow_"): value for key, value in config["analysis"].items() if key.startswith("allow_")}
    return Allowances(**coerce("analysis.allow", Allowances, node))


def make_console() -> Console:
    """A console on standard output, 120 columns wide where it is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


class ConfigurationError(ValueError):
    """Hydra cannot compose what was asked for; the message is made for people."""


def expand(overrides: list[str], *, multirun: bool) -> tuple[list[list[str]], bool, dict[str, Any]]:
    """The overrides of every job of a sweep (of Hydra's basic sweeper), or of the only one; whether it is one; its launcher."""
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
            return [overrides], False, hydra["launcher"]
        batches = BasicSweeper.split_arguments(parser.parse_overrides([*saved, *overrides]), None)
    except HydraException as error:
        raise ConfigurationError(explain(str(error), overrides)) from error
    return [list(job) for job in batches[0]], True, hydra["launcher"]


def compose(overrides: list[str], *, with_hydra: bool = False, name: str = "config") -> dict[str, Any]:
    """The resolved configuration ``name`` of the folder for ``overrides``, as plain values.

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
            config = hydra_compose(name, overrides, return_hydra_config=with_hydra)
            if with_hydra:
                hydra = config.hydra
                mode = hydra.mode.name if hydra.mode else None
                groups = {name: OmegaConf.to_container(hydra[name]) for name in ("sweeper", "launcher")}
                return {"hydra": {"mode": mode, **groups}}
            found = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(explain(str(error), overrides, name)) from error
    assert isinstance(found, dict)
    check_constraint(overrides, found.get("constraint"))
    return {str(key): value for key, value in found.items()}


def check_constraint(overrides: Sequence[str], found: object) -> None:
    """Refuse a constraint that was chosen, but lost to one that a saved study sets as a value.

    Raises:
        ConfigurationError: it did.
    """
    chosen = [word.removeprefix("constraint=") for word in overrides if word.startswith("constraint=")]
    if chosen and isinstance(found, str) and found != chosen[-1]:
        raise ConfigurationError(
            f"constraint={chosen[-1]}: a file that was composed sets constraint: {found}, which wins; "
            f"write that in its defaults, as - override /constraint: {found}"
        )


def explain(message: str, overrides: Sequence[str], config: str = "config") -> str:
    """Hydra's message about a configuration, with the nearest existing name where one was misspelt."""
    from tta_bench.catalog import names, no_parameter, unknown

    choice = re.search(r"Could not find '(hydra/launcher|\w+)/([^']*)'", message)
    if choice:
        group, name = choice.groups()
        if group == "hydra/launcher":
            from tta_bench.commands.elsewhere import no_launcher

            return no_launcher(name)
        hint = "; for a checkpoint folder or hub id use model.name_or_path=..." if group == "model" else ""
        return unknown(group, name, names(group)) + hint
    key = re.search(r"Could not override '([^']+)'", message)
    if key:
        parent, _, name = key.group(1).rpartition(".")
        chosen = [word for word in overrides if re.match(r"(sampler|sampler@baseline|task|model|constraint|\+tune)=\w+$", word)]
        keys: Any = compose(chosen, name=config) if chosen != list(overrides) else {}
        for part in parent.split(".") if parent else []:
            keys = keys.get(part) if isinstance(keys, dict) else None
        if isinstance(keys, dict) and "_target_" in keys:
            group = parent if parent in ("task", "constraint") else "sampler"
            chosen_name = str(keys["_target_"]).rpartition(".")[2]
            return no_parameter(group, chosen_name, name, tuple(k for k in keys if k != "_target_"))
        if parent == "constraint" and isinstance(keys, str):
            return no_parameter(parent, keys, name, ())
        if isinstance(keys, dict):
            return unknown(f"key under {parent}" if parent else "key", name, tuple(k for k in keys if k != "_target_"))
    if "model.recommended" in message:
        return (
            "settings=recommended: the model's file in conf/model names no settings of its authors; "
            "leave it out, and give steps, gen_length and block_length"
        )
    return message.strip().replace("\n", " ")


def read(config: dict[str, Any], *, here: bool = True) -> Comparison:
    """The comparison that a configuration describes, checked, for a process that uses no more threads than it has cores for.

    Args:
        config: resolved.
        here: whether it is done on this machine.
    """
    from tta_bench.runner.settings import comparison
    from tta_bench.runner.threads import limit_threads

    limit_threads()
    return comparison(config, here=here)


def launch(words: Sequence[str], what: Callable[[DictConfig], None]) -> None:
    """Hand the overrides to Hydra, whose launcher calls ``what`` for each combination."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    given = sys.argv
    sys.argv = ["tta-bench", *words]
    try:
        hydra.main(config_path="pkg://tta_bench.conf", config_name="config", version_base="1.3")(what)()
    finally:
        sys.argv = given


def job(config: DictConfig) -> None:
    """One comparison, in whatever process the launcher chose; leaves alone what other processes are at work on."""
    do(config, last_round=False)


def last_job(config: DictConfig) -> None:
    """What no process got to of one comparison."""
    do(config, last_round=True)


def do(config: DictConfig, *, last_round: bool) -> None:
    """A job."""
    from tta_bench.commands.run import do_comparison
    from tta_bench.models.checkpoint import CheckpointError
    from tta_bench.runner.disk import StoreError
    from tta_bench.runner.ranks import RankError

    try:
        do_comparison(read(resolved(config)), make_console(), last_round=last_round)
    except (StoreError, CheckpointError, RankError) as error:
        # Hydra would catch it and start the next job, which would fail in the same way.
        refuse(error)
        raise SystemExit(BAD_INPUT if isinstance(error, CheckpointError) else FAILED) from error


def resolved(config: DictConfig) -> dict[str, Any]:
    """A job's configuration as plain values."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def launch_elsewhere(words: Sequence[str], what: Callable[[DictConfig], Outcome], engine: Engine) -> list[Outcome]:
    """Have a launcher call ``what`` for each combination, in processes of its own; returns what became of them.

    ``hydra.main`` would end this process where a job failed, and keep what the others return to itself.
    """
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    from tta_bench.commands.elsewhere import died

    if engine.name == "ray":
        from hydra_plugins.tta_bench import register

        register()
    GlobalHydra.instance().clear()
    overrides = [word for word in words if word != "--multirun"]
    try:
        with initialize_config_module("tta_bench.conf", job_name="tta-bench", version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            batches = hydra.multirun("config", what, overrides)
    except Exception as error:  # every engine has its own for a process that died
        return [died(engine, error)]
    return [returned.return_value for batch in batches for returned in batch]


def job_elsewhere(config: DictConfig) -> Outcome:
    """``job``, for a process that a launcher made."""
    return do_there(config, last_round=False)


def last_job_elsewhere(config: DictConfig) -> Outcome:
    """``last_job``, for a process that a launcher made."""
    return do_there(config, last_round=True)


def do_there(config: DictConfig, *, last_round: bool) -> Outcome:
    """A job, in a process that a launcher made: what it says are whole lines, and what goes wrong is its answer."""
    from rich.console import Console

    from tta_bench.commands.elsewhere import outcome
    from tta_bench.commands.run import check_comparable, do_comparison
    from tta_bench.runner.survey import survey

    def prepare() -> Callable[[], None]:
        plain = resolved(config)
        comparison = read(plain)
        if not allowances(plain).differences:
            check_comparable([comparison], survey([comparison]))
        # Standard output belongs to the command that sent the job: it may be asked for JSON.
        console = Console(width=120, force_terminal=False, stderr=True)
        return partial(do_comparison, comparison, console, last_round=last_round)

    return outcome(prepare)


if __name__ == "__main__":
    sys.exit(main())
