"""What a person reads: the report of a run, and a look at prepared data, each a page and text for the terminal."""

from pathlib import Path

from ctxkit.spec import hookimpl


@hookimpl
def ctxkit_report(run_dir: Path) -> str:
    """Write `report.html` and return the summary."""
    from ctxkit_report.page import write_report
    from ctxkit_report.terminal import summary

    return f"{summary(run_dir)}\n\nreport: {write_report(run_dir)}"


@hookimpl
def ctxkit_data_report(run_dir: Path) -> str | None:
    """Write `data.html` and return the overview, in colour; None where no data is prepared."""
    from ctxkit_report.data_page import show

    return show(run_dir)


@hookimpl
def ctxkit_sweep_report(sweep_dir: Path) -> str | None:
    """Write `sweep.html`, a chart for each metric; None where the swept values are no numbers."""
    from ctxkit_report.sweep_page import write_page

    return write_page(sweep_dir)
