"""One recipe run at every combination of some values, in turn or as a job array, and one table of it all."""

from ctxkit.sweep.points import Point, checked, first, parse_all, points, stated
from ctxkit.sweep.results import pooled, rows, terminal, write_csv
from ctxkit.sweep.running import Sweep, run_points

__all__ = [
    "Point",
    "Sweep",
    "checked",
    "first",
    "parse_all",
    "points",
    "pooled",
    "rows",
    "run_points",
    "stated",
    "terminal",
    "write_csv",
]
