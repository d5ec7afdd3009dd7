"""RoPE scalers with a closed formula: linear interpolation and YaRN."""

from ctxkit.spec import Component, hookimpl
from ctxkit_rope.options import LinearOptions, YarnOptions

__all__ = ["LinearOptions", "YarnOptions", "ctxkit_components"]


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the options classes that this plugin adds to the `rope` slot."""
    return [LinearOptions, YarnOptions]
