"""Job files for the engines that start a run on machines elsewhere; each engine is a module with one function."""

from ctxkit.jobs import kubeflow, skypilot, slurm
from ctxkit.jobs.job import Engine, Job, parse_arguments

ENGINES: dict[str, Engine] = {"kubeflow": kubeflow.render, "skypilot": skypilot.render, "slurm": slurm.render}
"""Every engine by the name that `ctxkit launch --on` takes."""

__all__ = ["ENGINES", "Engine", "Job", "parse_arguments"]
