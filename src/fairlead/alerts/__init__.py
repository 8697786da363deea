"""Alerts: rules that read findings, how an alert stands, and who is told of it."""
