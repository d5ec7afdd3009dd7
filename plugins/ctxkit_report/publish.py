"""Fill a template of this package, and put a page in place in one step."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from ctxkit.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment


def fill(template: str, **values: object) -> str:
    """Return a page: every value is escaped, and a name that the template knows and nobody gave is an error."""
    return _environment().get_template(template).render(**values)


def publish(target: Path, page: str) -> None:
    """Write a page beside its place and move it there, so that a reader never sees half of one.

    Raises DiskError where it cannot be written.
    """
    draft = target.with_name(f".{target.stem}.{os.getpid()}.html")
    try:
        draft.write_bytes(page.encode("utf-8", "replace"))
        os.replace(draft, target)  # noqa: PTH105 - the same call, by the name that says it is atomic
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DiskError(
            f"cannot write {target}: {error.strerror or error}", "free some space, mend the rights, or write elsewhere"
        ) from error


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("ctxkit_report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
