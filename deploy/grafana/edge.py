"""The dashboard of Envoy in front of convd's servers."""

from deploy.grafana.panels import Dashboard, Panel, Query, Variable

_INSTANCE = 'job="envoy", instance=~"$instance"'
_EDGE = f'{_INSTANCE}, envoy_http_conn_manager_prefix="edge"'
_FLEET = "{{envoy_cluster_name}}"
_BY_FLEET = "envoy_cluster_name"


def _of_fleets(metric: str) -> str:
    return f'envoy_cluster_{metric}{{{_INSTANCE}, envoy_cluster_name!="administration"}}'


def _rate(metric: str) -> str:
    return f"sum by ({_BY_FLEET}) (rate({_of_fleets(metric)}[$__rate_interval]))"


def _of_callers(metric: str) -> str:
    return f"sum(rate(envoy_http_{metric}{{{_EDGE}}}[$__rate_interval]))"


def _quantile_seconds(quantile: float) -> str:
    series = _of_fleets("upstream_rq_time_bucket")
    rate = f"sum by ({_BY_FLEET}, le) (rate({series}[$__rate_interval]))"
    return f"histogram_quantile({quantile}, {rate}) / 1000"


EDGE = Dashboard(
    uid="convd-edge",
    title="convd: Edge",
    description="What Envoy sends to which fleet, what it tries again, and what it turns away.",
    variables=(Variable("instance", "Instance", "envoy_server_live", 'job="envoy"'),),
    rows=(
        (
            "Fleets",
            (
                Panel(
                    "Calls",
                    "Calls that each fleet receives, retries and hedges included: here the weight "
                    "of a canary shows.",
                    "reqps",
                    [Query(_rate("upstream_rq_total"), _FLEET)],
                ),
                Panel(
                    "Healthy servers",
                    "Servers that pass the health check and are not ejected. Fewer than you run "
                    "means that one loads, drains or does not answer.",
                    "none",
                    [Query(f"sum by ({_BY_FLEET}) ({_of_fleets('membership_healthy')})", _FLEET)],
                ),
                Panel(
                    "Time of an answer",
                    "95 and 99 of 100 calls are answered by a server within this time, as Envoy "
                    "sees it. per_try_timeout in deploy/envoy/routes.yaml should be the p95.",
                    "s",
                    [
                        Query(_quantile_seconds(0.95), f"{_FLEET} p95"),
                        Query(_quantile_seconds(0.99), f"{_FLEET} p99"),
                    ],
                ),
                Panel(
                    "Asked again",
                    "Calls that a second server was asked: because the first was lost or "
                    "unavailable (retries and hedges together), because it was slow (hedges), and "
                    "those for which the retry budget had nothing left.",
                    "reqps",
                    [
                        Query(_rate("upstream_rq_retry"), f"{_FLEET} retries and hedges"),
                        Query(_rate("upstream_rq_per_try_timeout"), f"{_FLEET} hedges"),
                        Query(_rate("upstream_rq_retry_overflow"), f"{_FLEET} over budget"),
                    ],
                    columns=12,
                ),
                Panel(
                    "Ejected servers",
                    "Servers that get no calls for a while, because connections to them failed or "
                    "broke several times in a row.",
                    "none",
                    [
                        Query(
                            f"sum by ({_BY_FLEET}) "
                            f"({_of_fleets('outlier_detection_ejections_active')})",
                            _FLEET,
                        )
                    ],
                    columns=12,
                ),
            ),
        ),
        (
            "Callers",
            (
                Panel(
                    "Connections and calls in progress",
                    "What callers have open now. Many calls that stay while few are answered are "
                    "half-sent ones.",
                    "none",
                    [
                        Query(f"sum(envoy_http_downstream_cx_active{{{_EDGE}}})", "connections"),
                        Query(f"sum(envoy_http_downstream_rq_active{{{_EDGE}}})", "calls"),
                    ],
                    columns=12,
                ),
                Panel(
                    "Turned away",
                    "Requests that ended at the edge: not finished in time, too large, of a path "
                    "that is not for callers, or while Envoy has no memory left.",
                    "reqps",
                    [
                        Query(_of_callers("downstream_rq_idle_timeout"), "stopped half-way"),
                        Query(_of_callers("downstream_rq_header_timeout"), "head too late"),
                        Query(_of_callers("downstream_rq_max_duration_reached"), "deadline"),
                        Query(_of_callers("downstream_rq_too_large"), "too large"),
                        Query(_of_callers("rbac_denied"), "path not for callers"),
                        Query(_of_callers("downstream_rq_overload_close"), "no memory"),
                    ],
                    columns=12,
                ),
            ),
        ),
    ),
)
