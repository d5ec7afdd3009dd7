"""The environment of a command: its secrets are learned, what opens a door is taken out, usage pings are off."""

from __future__ import annotations

import os
import sys

from ctxkit.masking import learn_environment

UNSAFE = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "with it, loading a file of tensors may run code that lies in the file"}
"""Variables that no command keeps, each with the reason."""
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # TRL pings once a trainer, transformers and huggingface_hub with each request
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets
    "GRADIO_ANALYTICS_ENABLED": "False",  # trackio's pages
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables by which libraries are told not to report their use; one that is set already stays."""
_HUB = "huggingface_hub"


def settle() -> list[str]:
    """Make the environment of this process and its children safe and quiet; return what was taken out and why.

    Before the training libraries are imported, since some read it once.
    """
    learn_environment()  # so that a run from Python masks its files as a command does
    gone = [f"{name} is ignored: {why}" for name, why in UNSAFE.items() if os.environ.pop(name, "")]
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    constants = getattr(sys.modules.get(_HUB), "constants", None)
    if constants is not None and os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1":
        constants.HF_HUB_DISABLE_TELEMETRY = True  # it was imported first, and read the environment then
    return gone
