"""Time series as text: simulated predator and prey, and how well a model forecasts them from how much history."""

from pathlib import Path

from ctxkit.spec import Component, hookimpl
from ctxkit_timeseries.options import ForecastOptions, LotkaVolterraOptions


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the source and the eval."""
    return [ForecastOptions, LotkaVolterraOptions]


@hookimpl
def ctxkit_sweep_report(sweep_dir: Path) -> str | None:
    """Return the arms of a sweep compared series by series; None where it has no forecasts."""
    from ctxkit_timeseries.pairing import paired

    return paired(sweep_dir)
