"""The report page of a trained model: one HTML file that needs no network."""

from cnf.plotting.report.flows import flow_report
from cnf.plotting.report.tables import table_report

__all__ = ["flow_report", "table_report"]
