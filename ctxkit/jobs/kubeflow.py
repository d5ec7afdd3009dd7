"""A TrainJob for Kubeflow Trainer v2, on a runtime whose pods have a container named `node`, as its own have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ctxkit import yaml_core
from ctxkit.jobs.job import TOKEN
from ctxkit.jobs.slurm import GRACE_SECONDS

if TYPE_CHECKING:
    from ctxkit.jobs.job import Job

NAME = "kubeflow"
RUNTIME = "torch-distributed"
SETTINGS = ("image", "runtime", "namespace", "volume", "secret", "setup", "gpu")
MANAGER = "ctxkit.io/launch"
LONGEST = 40
"""Characters of a name, from which Kubernetes makes longer ones."""

HEAD = """\
# Send it off:  kubectl apply -f FILE
# The image holds ctxkit and the recipe. A pod that is asked to go has {grace} s to save. How often the job is started
# again is for the runtime to say, in the `backoffLimit` of its job; each time it goes on from its last checkpoint.
"""


def render(job: Job) -> str:
    """Return the TrainJob; `image` is needed.

    Raises:
        CtxkitError: with exit code 2, a setting is missing or unknown, or the run directory would be lost.
    """
    settings = job.take(SETTINGS, NAME)
    name = re.sub(r"[^a-z0-9-]+", "-", job.name.lower())[:LONGEST].strip("-")
    secret = {"name": settings.get("secret", "hf-token"), "key": TOKEN, "optional": True}
    line = "exec " + job.line('"$MASTER_ADDR"', '"$MASTER_PORT"')
    trainer = {
        "image": job.need("image", NAME, "registry.example.org/ctxkit:1"),
        "numNodes": job.num_machines,
        "numProcPerNode": job.local,
        "command": ["bash", "-c", "\n".join([*([settings["setup"]] if "setup" in settings else []), line])],
        "resourcesPerNode": {"limits": {settings.get("gpu", "nvidia.com/gpu"): job.local}},
        # By its name: the value lies in a Secret of the cluster.
        "env": [{"name": TOKEN, "valueFrom": {"secretKeyRef": secret}}],
    }
    made = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, **({"namespace": settings["namespace"]} if "namespace" in settings else {})},
        "spec": {
            "runtimeRef": {"name": settings.get("runtime", RUNTIME)},
            "trainer": trainer,
            "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": _pods(job.volume(NAME))}],
        },
    }
    return HEAD.format(grace=GRACE_SECONDS) + yaml_core.dump(made)


def _pods(volume: tuple[str, str] | None) -> dict[str, Any]:
    """Return what changes in the pods of the runtime: time to save, and the volume of the run directory."""
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": GRACE_SECONDS}
    if volume:
        name, place = volume
        pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": name}}]
        pod["containers"] = [{"name": "node", "volumeMounts": [{"name": "runs", "mountPath": place}]}]
    return {
        "template": {"spec": {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": {"spec": pod}}}}]}}
    }
