"""Which rows are trained when: phases, a window that grows, a mixture of lengths that changes."""

from ctxkit.spec import Component, hookimpl
from ctxkit_curriculum.options import GrowOptions, MixtureOptions, PhasesOptions


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the curricula."""
    return [PhasesOptions, GrowOptions, MixtureOptions]
