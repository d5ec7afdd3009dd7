"""The report of a run: one self-contained page, and a summary for the terminal."""

from pathlib import Path

from ctxkit.spec import hookimpl


@hookimpl
def ctxkit_report(run_dir: Path) -> str:
    """Write `report.html` and return the summary."""
    from ctxkit_report.page import write_report
    from ctxkit_report.terminal import summary

    return f"{summary(run_dir)}\n\nreport: {write_report(run_dir)}"
