"""A task file for SkyPilot's managed jobs, which get a job up again on another machine when one is taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxkit import yaml_core
from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.jobs.job import TOKEN

if TYPE_CHECKING:
    from ctxkit.jobs.job import Job

NAME = "skypilot"
RESOURCES = ("cloud", "infra", "region", "zone", "instance_type", "image_id")
"""Settings that are fields of SkyPilot's `resources` with a text for a value."""
SETTINGS = (*RESOURCES, "accelerators", "disk_size", "use_spot", "setup", "volume", "workdir")
SETUP = "pip install -e '.[gpu]'"
HOST = 'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)'
PORT = 29500

HEAD = """\
# Send it off from a checkout of ctxkit that holds the recipe:  sky jobs launch FILE
# A job whose machine is taken away is started again elsewhere, as is one that ends with exit code {preempted}. It goes
# on from its last checkpoint, so its run directory lies on a volume, or on a bucket that you mount by `file_mounts`.
"""


def render(job: Job) -> str:
    """Return the task; `accelerators` is needed, such as `H100`.

    Raises:
        CtxkitError: with exit code 2, a setting is missing or unknown, or the run directory would be lost.
    """
    settings = job.take(SETTINGS, NAME)
    volume, line = job.volume(NAME), job.line('"$head"', str(PORT))
    task: dict[str, Any] = {
        "name": job.name,
        "workdir": settings.get("workdir", "."),
        "num_nodes": job.num_machines,
        "resources": _resources(job, settings),
        **({"volumes": {volume[1]: volume[0]}} if volume else {}),
        # Without a value here: SkyPilot asks for `--secret HF_TOKEN`, and reads it from the environment.
        **({"secrets": {TOKEN: None}} if job.has_token else {}),
        "setup": settings.get("setup", SETUP),
        "run": f"{HOST} && exec {line}",
    }
    secret = f"# The token of the hub is taken from your environment:  --secret {TOKEN}\n" if job.has_token else ""
    return HEAD.format(preempted=int(ExitCode.PREEMPTED)) + secret + yaml_core.dump(task)


def _resources(job: Job, settings: dict[str, str]) -> dict[str, Any]:
    accelerators = job.need("accelerators", NAME, "H100")
    return {
        "accelerators": accelerators if ":" in accelerators else f"{accelerators}:{job.local}",
        **{key: settings[key] for key in RESOURCES if key in settings},
        **({"disk_size": _gigabytes(settings["disk_size"])} if "disk_size" in settings else {}),
        **({"use_spot": _switch(settings["use_spot"])} if "use_spot" in settings else {}),
        "job_recovery": {"recover_on_exit_codes": [int(ExitCode.PREEMPTED)]},
    }


def _gigabytes(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise CtxkitError(f"--job-arg disk_size={text}: needs a number of GB", exit_code=ExitCode.RECIPE)
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise CtxkitError(f"--job-arg use_spot={text}: needs true or false", exit_code=ExitCode.RECIPE)
    return text.lower() == "true"
