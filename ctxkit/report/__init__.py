"""The report of a run: one self-contained page, and a summary for the terminal."""

from ctxkit.report.page import write_report
from ctxkit.report.terminal import summary

__all__ = ["summary", "write_report"]
