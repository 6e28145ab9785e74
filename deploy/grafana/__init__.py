"""Grafana's dashboards, made from Python so that units, legends and help are never forgotten."""
