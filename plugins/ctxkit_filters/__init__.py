"""Which documents stay."""

from ctxkit.spec import Component, hookimpl
from ctxkit_filters.options import LengthOptions


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the filters."""
    return [LengthOptions]
