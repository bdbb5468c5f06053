"""The report: one HTML page that a person likes to read, made from a published log.

Rules
- One file, which needs no network, no script and no other file; the browser's print gives a good PDF.
- One pass over the log in bounded memory: counts, histograms, a sampled curve, a few best examples.
- The log is a stranger's: text is escaped and cut, figures that cannot be are counted and left out, a picture
  is shown only after its pixels were compared with their digest.
- Numbers are those of `perturbnet.statistics`; nothing is estimated here.
"""

from perturbnet.report.certificate import render_certificate
from perturbnet.report.page import Report, render_report
from perturbnet.report.summary import encode_summary
from perturbnet.report.writing import (
    NO_SOURCE,
    ReportOptions,
    given,
    make_report,
    write_page,
    write_report,
)

__all__ = [
    "NO_SOURCE",
    "Report",
    "ReportOptions",
    "encode_summary",
    "given",
    "make_report",
    "render_certificate",
    "render_report",
    "write_page",
    "write_report",
]
