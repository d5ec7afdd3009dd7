"""Less memory for long rows: what neither transformers nor TRL do."""

from ctxkit.spec import Component, hookimpl
from ctxkit_longmem.options import TiledMlpOptions


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the patches."""
    return [TiledMlpOptions]
