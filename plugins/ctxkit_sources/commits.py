"""Which commit of a dataset the local cache holds, without asking the hub."""

from __future__ import annotations

import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str) -> bool:
    """Return whether a revision is a whole commit, which means the same for ever."""
    return bool(_COMMIT.fullmatch(revision))


def cached_commit(name: str, revision: str | None) -> str:
    """Return the commit that a revision of a dataset meant when it was last asked for; nothing where nobody did."""
    from huggingface_hub import constants

    if revision and is_commit(revision):
        return revision
    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs"
    reference = folder / (revision or "main")
    return reference.read_text().strip() if reference.is_file() else ""
