"""Which documents stay."""

from ctxkit.spec import Options, hookimpl
from ctxkit_filters.options import LengthOptions


@hookimpl
def ctxkit_components() -> list[type[Options]]:
    """Return the filters."""
    return [LengthOptions]
