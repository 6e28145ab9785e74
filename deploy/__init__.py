"""What operators run beside the server: Prometheus, Grafana, containers."""
