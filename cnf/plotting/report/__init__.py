"""The report page of a trained model: one HTML file that needs no network."""

from cnf.plotting.report.flows import flow_report

__all__ = ["flow_report"]
