"""Time series as text: simulated predator and prey, and how well a model forecasts them from how much history."""

from ctxkit.spec import Component, hookimpl
from ctxkit_timeseries.options import ForecastOptions, LotkaVolterraOptions


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the source and the eval."""
    return [ForecastOptions, LotkaVolterraOptions]
