"""Which commit of a dataset the local cache holds, without asking the hub."""

from __future__ import annotations

import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")


def cached_commit(name: str, revision: str | None) -> str:
    """Return the commit that a revision of a dataset meant when it was last asked for; nothing where nobody did."""
    from huggingface_hub import constants

    if revision and _COMMIT.fullmatch(revision):
        return revision
    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs"
    reference = folder / (revision or "main")
    return reference.read_text().strip() if reference.is_file() else ""
