"""RoPE scalers with a published formula: interpolation, a larger theta, and both by parts."""

from ctxkit.spec import Component, hookimpl
from ctxkit_rope.longrope_options import LongropeOptions
from ctxkit_rope.options import (
    DynamicOptions,
    LinearOptions,
    Llama3Options,
    NtkOptions,
    ThetaOptions,
    YarnOptions,
)

__all__ = [
    "DynamicOptions",
    "LinearOptions",
    "Llama3Options",
    "LongropeOptions",
    "NtkOptions",
    "ThetaOptions",
    "YarnOptions",
    "ctxkit_components",
]


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the options classes that this plugin adds to the `rope` slot."""
    return [
        DynamicOptions,
        LinearOptions,
        Llama3Options,
        LongropeOptions,
        NtkOptions,
        ThetaOptions,
        YarnOptions,
    ]
