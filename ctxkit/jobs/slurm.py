"""A batch script for Slurm: one `ctxkit launch` on every machine; stopped in time, and queued again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ctxkit.errors import CtxkitError, ExitCode

if TYPE_CHECKING:
    from ctxkit.jobs.job import Job

FIXED = ("nodes", "ntasks-per-node", "signal", "requeue")
"""Options of sbatch on which the script relies."""
GRACE_SECONDS = 300
"""Between the warning and the end of the time that a job has, for the step and its checkpoint to end."""

SCRIPT = """\
#!/bin/bash
{options}
#
# Send it off in the folder where it was made, with the environment in which ctxkit is installed:  sbatch FILE
# The job is warned {grace} s before its time is over, saves, and queues itself again; sent off again, it goes on too.
# Logs are beside it. Secrets are taken from the environment, such as HF_TOKEN, and are not in this file.

cd -- {folder} || exit 6
{setup}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 40000))  # jobs on the same machine do not meet

# One task a machine; those that are not told to stop end when another has been gone for {grace} s.
srun --ntasks-per-node=1 --wait={grace} {line} &
task=$!
trap 'kill -USR1 "$task" 2>/dev/null' USR1
trap 'kill -TERM "$task" 2>/dev/null' TERM

wait "$task"
code=$?
while kill -0 "$task" 2>/dev/null; do  # a signal ends `wait` before the task ends
    wait "$task"
    code=$?
done
if [ "$code" -eq {preempted} ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def render(job: Job) -> str:
    """Return the batch script; every setting but `setup` is an option of sbatch, such as `time` and `partition`.

    Raises:
        CtxkitError: with exit code 2, a setting is one of those that the script decides.
    """
    settings = dict(job.settings)
    setup = settings.pop("setup", "")
    for key in FIXED:
        if key in settings:
            said = f"--job-arg {key}: the script decides it"
            hint = "see --num-machines and --num-processes" if "node" in key else "leave it out"
            raise CtxkitError(said, hint, exit_code=ExitCode.RECIPE)
    options = {
        "job-name": job.name,
        "nodes": str(job.num_machines),
        "ntasks-per-node": "1",
        "gpus-per-node": str(job.local),
        "signal": f"B:USR1@{GRACE_SECONDS}",
        "requeue": "",
        "open-mode": "append",
        "output": f"{job.name}-%j.log",
        **settings,
    }
    return SCRIPT.format(
        options="\n".join(_option(key, value) for key, value in options.items()),
        grace=GRACE_SECONDS,
        folder=shlex.quote(job.folder),
        setup=setup,
        line=job.line('"$head"', '"$port"'),
        preempted=int(ExitCode.PREEMPTED),
    )


def _option(key: str, value: str) -> str:
    return f"#SBATCH --{key}={shlex.quote(value)}" if value else f"#SBATCH --{key}"
