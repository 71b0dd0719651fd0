"""Jobs on a Ray cluster: a launcher plugin of Hydra that runs them and does nothing else.

Hydra takes plugins from modules of one name only, so this is installed as ``hydra_plugins.tta_bench``. Hydra's own launcher for
Ray cannot be installed beside today's joblib (it wants cloudpickle < 3), see docs/scaling.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


def register() -> None:
    """Tell Hydra that the launcher is there; of an editable installation, it would not find out."""
    Plugins.instance().register(RayLauncher)


class RayLauncher(Launcher):
    """Runs every job as a task of Ray, and waits for all of them.

    Args:
        address: of the cluster as ``ray.init`` takes it; None starts one on this machine, which ends with the sweep.
        num_cpus: cores of a job; Ray has it use as many threads.
        num_gpus: of a job.
        resources: others of a job, by name.
        max_retries: times that a job begins again because its worker died.
    """

    def __init__(
        self, address: str | None, num_cpus: float, num_gpus: float, resources: Mapping[str, float], max_retries: int
    ) -> None:
        self.address = address
        self.task = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "resources": dict(resources),
            "max_retries": max_retries,
            "max_calls": 1,  # a process for each job: with what another one left, it would have other threads, or no memory
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """See Hydra."""
        self.context, self.function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """See Hydra.

        Raises:
            ray.exceptions.RayError: a job's worker died too often; the others were waited for.
        """
        import ray

        setup_globals()
        jobs = [self.job(list(words), initial_job_idx + i) for i, words in enumerate(job_overrides)]
        ours = not ray.is_initialized()
        if ours:
            ray.init(address=self.address, logging_level="warning", log_to_driver=False)
        try:
            remote = ray.remote(**self.task)(run_there)
            tasks = [remote.remote(self.context, job, self.function, Singleton.get_state(), os.getcwd()) for job in jobs]
            ray.wait(tasks, num_returns=len(tasks))
            return [ray.get(task) for task in tasks]
        finally:
            if ours:
                ray.shutdown()

    def job(self, overrides: list[str], number: int) -> DictConfig:
        """The configuration of a job."""
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config


def run_there(context: HydraContext, config: DictConfig, function: TaskFunction, state: Any, folder: str) -> JobReturn:
    """A job, in a worker of Ray.

    Args:
        context, config, function: of the job.
        state: of Hydra where the sweep was given.
        folder: where the sweep was given, for names of files that are relative to it; it must be there on every machine.
    """
    os.chdir(folder)
    Singleton.set_state(state)
    setup_globals()
    return run_job(function, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
