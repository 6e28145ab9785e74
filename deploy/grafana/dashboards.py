"""The dashboards: Service, Model and Hardware here, Edge in a file of its own."""

from deploy.grafana.edge import EDGE
from deploy.grafana.panels import Dashboard, Panel, Query, Variable

_INSTANCE = 'job="convd", instance=~"$instance"'
_VERSION = f'{_INSTANCE}, model=~"$model", version=~"$version"'
_BY_VERSION = "{{model}} {{version}}"

_VARIABLES = (
    Variable("instance", "Instance", "convd_ready", 'job="convd"'),
    Variable("model", "Model", "convd_version_state", _INSTANCE),
    Variable("version", "Version", "convd_version_state", f'{_INSTANCE}, model=~"$model"'),
)


def _rate(metric: str, by: str, more: str = "") -> str:
    selector = f"{_VERSION}, {more}" if more else _VERSION
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def _quantile(quantile: float, histogram: str, by: str, more: str = "") -> str:
    return f"histogram_quantile({quantile}, {_rate(f'{histogram}_bucket', f'{by}, le', more)})"


def _mean(histogram: str, by: str, more: str = "") -> str:
    return f"{_rate(f'{histogram}_sum', by, more)} / {_rate(f'{histogram}_count', by, more)}"


_SERVER_ERRORS = (
    'code=~"INTERNAL|UNKNOWN|UNAVAILABLE|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|DATA_LOSS"'
)
_REQUESTS = "convd_requests_total"
_REQUEST_SECONDS = "convd_request_duration_seconds"
_STAGE_SECONDS = "convd_stage_duration_seconds"
_UNARY = 'method!~".*Stream.*"'

SERVICE = Dashboard(
    uid="convd-service",
    title="convd: Service",
    description="Is it healthy, is it fast, and how much more can it take?",
    variables=_VARIABLES,
    rows=(
        (
            "At a glance",
            (
                Panel(
                    "Ready",
                    "Servers that say they are ready. Fewer than you run means that one still "
                    "loads, drains or lacks a model.",
                    "none",
                    [Query(f"sum(convd_ready{{{_INSTANCE}}})", "ready")],
                    kind="stat",
                    columns=4,
                ),
                Panel(
                    "Requests",
                    "Requests per second that were answered, well or not.",
                    "reqps",
                    [Query(f"sum({_rate(_REQUESTS, 'model')})", "requests")],
                    kind="stat",
                    columns=5,
                ),
                Panel(
                    "Errors",
                    "Share of requests that ended in an error that is not the caller's. The alert "
                    "ConvdErrors fires above 2 %.",
                    "percentunit",
                    [
                        Query(
                            f"(sum({_rate(_REQUESTS, 'model', _SERVER_ERRORS)}) or vector(0)) "
                            f"/ sum({_rate(_REQUESTS, 'model')})",
                            "errors",
                        )
                    ],
                    kind="stat",
                    columns=5,
                    thresholds=(0.001, 0.02),
                ),
                Panel(
                    "p50",
                    "Half of the unary requests are answered within this time.",
                    "s",
                    [Query(_quantile(0.5, _REQUEST_SECONDS, "job", _UNARY), "p50")],
                    kind="stat",
                    columns=5,
                ),
                Panel(
                    "p99",
                    "99 of 100 unary requests are answered within this time. The alert ConvdSlow "
                    "fires above half a second.",
                    "s",
                    [Query(_quantile(0.99, _REQUEST_SECONDS, "job", _UNARY), "p99")],
                    kind="stat",
                    columns=5,
                    thresholds=(0.1, 0.5),
                ),
            ),
        ),
        (
            "Rate and errors",
            (
                Panel(
                    "Requests by version",
                    "Who is asked how much. During a rollout the new version takes over from the "
                    "old one here.",
                    "reqps",
                    [Query(_rate(_REQUESTS, "model, version"), _BY_VERSION)],
                ),
                Panel(
                    "Requests by method",
                    "Which protocol and method the callers use.",
                    "reqps",
                    [Query(_rate(_REQUESTS, "method"), "{{method}}")],
                ),
                Panel(
                    "Errors by code",
                    "Every status but OK, also of requests whose model could not be resolved. "
                    "INVALID_ARGUMENT and NOT_FOUND are the caller's; the others are ours.",
                    "reqps",
                    [
                        Query(
                            "sum by (code) (rate(convd_requests_total"
                            f'{{{_INSTANCE}, code!="OK"}}[$__rate_interval]))',
                            "{{code}}",
                        )
                    ],
                ),
                Panel(
                    "Images",
                    "Images classified per second: the work that is really done, since a request "
                    "may bring many.",
                    "ops",
                    [Query(_rate("convd_images_total", "model, version"), _BY_VERSION)],
                    columns=12,
                ),
                Panel(
                    "Refused images",
                    "Images that could not be decoded or have the wrong size. The others of their "
                    "request are answered.",
                    "ops",
                    [Query(_rate("convd_refused_images_total", "model, version"), _BY_VERSION)],
                    columns=12,
                ),
            ),
        ),
        (
            "Latency",
            (
                Panel(
                    "Duration of unary requests",
                    "Percentiles over all chosen versions. A p99 that leaves the p50 behind speaks "
                    "of waiting, both together of work.",
                    "s",
                    [
                        Query(_quantile(quantile, _REQUEST_SECONDS, "job", _UNARY), name)
                        for quantile, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
                    ],
                ),
                Panel(
                    "p99 by stage",
                    "Where the slowest requests spend their time: decode and preprocess grow with "
                    "the pictures, queue with the load, inference with the batch.",
                    "s",
                    [Query(_quantile(0.99, _STAGE_SECONDS, "stage"), "{{stage}}")],
                ),
                Panel(
                    "Mean by stage",
                    "What an average request is made of; the stack is its whole time.",
                    "s",
                    [Query(_mean(_STAGE_SECONDS, "stage"), "{{stage}}")],
                    stacked=True,
                ),
                Panel(
                    "p99 of unary requests by version",
                    "Compares versions and models. A new version that is slower than the old one "
                    "shows here.",
                    "s",
                    [
                        Query(
                            _quantile(0.99, _REQUEST_SECONDS, "model, version", _UNARY),
                            _BY_VERSION,
                        )
                    ],
                    columns=12,
                    thresholds=(0.5,),
                ),
                Panel(
                    "Duration of one inference",
                    "Median and p99 of running one batch, without any waiting.",
                    "s",
                    [
                        Query(
                            _quantile(quantile, "convd_batch_duration_seconds", "model, version"),
                            f"{name} {_BY_VERSION}",
                        )
                        for quantile, name in ((0.5, "p50"), (0.99, "p99"))
                    ],
                    columns=12,
                ),
            ),
        ),
        (
            "Saturation",
            (
                Panel(
                    "Engine busy",
                    "Share of the time in which an inference runs, per replica. Near 100 % the "
                    "queue grows, and only more replicas or a smaller network help.",
                    "percentunit",
                    [
                        Query(
                            _rate("convd_batch_duration_seconds_sum", "instance, model, version"),
                            "{{instance}} {{model}} {{version}}",
                        )
                    ],
                    thresholds=(0.9,),
                ),
                Panel(
                    "Rows per batch",
                    "Mean and p90 of how many images run together. It grows with the load; it is "
                    "1 while the engine keeps up.",
                    "none",
                    [
                        Query(_mean("convd_batch_size_rows", "model, version"), _BY_VERSION),
                        Query(
                            _quantile(0.9, "convd_batch_size_rows", "model, version"),
                            f"p90 {_BY_VERSION}",
                        ),
                    ],
                ),
                Panel(
                    "Waiting rows",
                    "Images that wait for an inference, and how many may. At the limit more are "
                    "refused.",
                    "none",
                    [
                        Query(
                            f"sum by (model, version) (convd_queue_rows{{{_VERSION}}})",
                            _BY_VERSION,
                        ),
                        Query(
                            f"sum by (model, version) (convd_queue_limit_rows{{{_VERSION}}})",
                            f"limit {_BY_VERSION}",
                        ),
                    ],
                ),
                Panel(
                    "Age of the queue",
                    "How long the oldest image has waited at the moment of the scrape.",
                    "s",
                    [
                        Query(
                            f"max by (model, version) (convd_queue_age_seconds{{{_VERSION}}})",
                            _BY_VERSION,
                        )
                    ],
                ),
                Panel(
                    "Rows without an answer",
                    "Rejected: the queue was full or the deadline too near. Expired: the deadline "
                    "passed while they waited. Cancelled: the caller went away.",
                    "ops",
                    [Query(_rate("convd_dropped_rows_total", "reason"), "{{reason}}")],
                ),
                Panel(
                    "Response cache",
                    "Share of the rows that the cache knew already. Empty while the cache is off.",
                    "percentunit",
                    [
                        Query(
                            _rate(
                                "convd_response_cache_rows_total",
                                "model, version",
                                'outcome="hit"',
                            )
                            + " / "
                            + _rate("convd_response_cache_rows_total", "model, version"),
                            _BY_VERSION,
                        )
                    ],
                    columns=12,
                    largest=1,
                ),
                Panel(
                    "Memory of the response cache",
                    "What the remembered answers take, up to response_cache_bytes.",
                    "bytes",
                    [Query(f"convd_response_cache_bytes{{{_INSTANCE}}}", "{{instance}}")],
                    columns=12,
                ),
                Panel(
                    "Calls that wait for a thread",
                    "Unary calls before any work on them. At the limit gRPC refuses more with "
                    "RESOURCE_EXHAUSTED, and those are counted nowhere.",
                    "none",
                    [
                        Query(f"convd_waiting_calls{{{_INSTANCE}}}", "{{instance}}"),
                        Query(f"max(convd_waiting_calls_limit{{{_INSTANCE}}})", "limit"),
                    ],
                ),
            ),
        ),
    ),
)

MODEL = Dashboard(
    uid="convd-model",
    title="convd: Model",
    description="Which versions answer, and do they still answer what they used to answer?",
    variables=_VARIABLES,
    rows=(
        (
            "Versions",
            (
                Panel(
                    "States",
                    "The state of every version on every server. A failed one never serves; "
                    "`convd models` shows its reason.",
                    "none",
                    [
                        Query(
                            "max by (instance, model, version, state) "
                            f"(convd_version_state{{{_VERSION}}}) == 1",
                            "{{model}} {{version}} {{state}}",
                        )
                    ],
                    kind="table",
                    columns=12,
                ),
                Panel(
                    "Execution providers",
                    "What each version runs on, and in which precision.",
                    "none",
                    [
                        Query(
                            "max by (instance, model, version, provider, precision) "
                            f"(convd_servable_info{{{_VERSION}}})",
                            "{{model}} {{version}} {{provider}}",
                        )
                    ],
                    kind="table",
                    columns=12,
                ),
                Panel(
                    "Accuracy",
                    "Share of the evaluation data that the network got right before it was "
                    "published; for independent labels, the mean average precision. It cannot be "
                    "measured while serving, where the truth is not known.",
                    "percentunit",
                    [
                        Query(
                            f"max by (model, version) (convd_accuracy_ratio{{{_VERSION}}})",
                            _BY_VERSION,
                        )
                    ],
                    kind="bargauge",
                    largest=1,
                ),
                Panel(
                    "Golden difference",
                    "How far this machine's answers are from those in the artifact, and how far "
                    "they may be. Over the tolerance a version does not serve.",
                    "sci",
                    [
                        Query(
                            "max by (model, version, provider) "
                            f"(convd_golden_difference_ratio{{{_VERSION}}})",
                            "{{model}} {{version}} {{provider}}",
                        ),
                        Query(
                            "max by (model, version, provider) "
                            f"(convd_golden_tolerance_ratio{{{_VERSION}}})",
                            "tolerance {{model}} {{version}}",
                        ),
                    ],
                ),
                Panel(
                    "Failed loads",
                    "Versions that could not be loaded, by cause. golden: this machine gives other "
                    "answers; artifact: incomplete or altered; engine: cannot run here.",
                    "none",
                    [
                        Query(
                            "sum by (model, version, cause) "
                            f"(convd_load_failures_total{{{_VERSION}}})",
                            "{{model}} {{version}} {{cause}}",
                        )
                    ],
                ),
            ),
        ),
        (
            "Answers",
            (
                Panel(
                    "Predictions by class",
                    "Images per second by the class that was most probable, or by each independent "
                    "label that was predicted; the twenty most frequent.",
                    "ops",
                    [
                        Query(
                            f"topk(20, {_rate('convd_predictions_total', 'model, class')})",
                            "{{model}} {{class}}",
                        )
                    ],
                    columns=12,
                    stacked=True,
                ),
                Panel(
                    "Share of each class, over its share in the evaluation data",
                    "1 is as in the evaluation data; 3 is three times as often. Classes that the "
                    "evaluation data never gave are left out.",
                    "none",
                    [
                        Query(
                            f"({_rate('convd_predictions_total', 'model, version, class')} "
                            "/ ignoring (class) group_left "
                            f"{_rate('convd_images_total', 'model, version')}) "
                            "/ (max by (model, version, class) "
                            f"(convd_baseline_prediction_ratio{{{_VERSION}}}) > 0)",
                            "{{model}} {{version}} {{class}}",
                        )
                    ],
                    columns=12,
                ),
                Panel(
                    "Confidence",
                    "Probability of what is predicted (the most probable class, or all independent "
                    "labels together): the least certain tenth, and the median. A fall says that "
                    "the pictures are unlike those in training.",
                    "percentunit",
                    [
                        Query(
                            _quantile(
                                quantile, "convd_prediction_confidence_ratio", "model, version"
                            ),
                            f"{name} {_BY_VERSION}",
                        )
                        for quantile, name in ((0.1, "p10"), (0.5, "p50"))
                    ],
                    largest=1,
                ),
                Panel(
                    "Uncertain answers",
                    "Share of images for which the probability of what is predicted is at most one "
                    "half.",
                    "percentunit",
                    [
                        Query(
                            _rate(
                                "convd_prediction_confidence_ratio_bucket",
                                "model, version",
                                'le="0.5"',
                            )
                            + " / "
                            + _rate("convd_prediction_confidence_ratio_count", "model, version"),
                            _BY_VERSION,
                        )
                    ],
                    largest=1,
                ),
                Panel(
                    "Entropy",
                    "Mean entropy of the probabilities as a share of the largest possible: 0 is "
                    "certain, 1 is clueless.",
                    "percentunit",
                    [Query(_mean("convd_prediction_entropy_ratio", "model, version"), _BY_VERSION)],
                    largest=1,
                ),
            ),
        ),
        (
            "Drift",
            (
                Panel(
                    "Drift of the predicted classes",
                    "Population stability index of the last 500 predictions of each server against "
                    "the evaluation data. Below 0.1 nothing has changed; above 0.25 the alert "
                    "ConvdDrift fires.",
                    "none",
                    [
                        Query(
                            "max by (model, version) "
                            f'(convd_drift_index{{{_VERSION}, of="class"}})',
                            _BY_VERSION,
                        )
                    ],
                    columns=12,
                    thresholds=(0.1, 0.25),
                ),
                Panel(
                    "Drift of the confidence",
                    "The same index of how certain the answers are. It sees blurred, dark or "
                    "foreign pictures even where the classes keep their shares.",
                    "none",
                    [
                        Query(
                            "max by (model, version) "
                            f'(convd_drift_index{{{_VERSION}, of="confidence"}})',
                            _BY_VERSION,
                        )
                    ],
                    columns=12,
                    thresholds=(0.1, 0.25),
                ),
            ),
        ),
        (
            "Compared versions",
            (
                Panel(
                    "Agreement with the candidate",
                    "Share of the compared images on which both versions predict the same (top1), "
                    "or whose answer is among the candidate's first five (topk). It needs shadow "
                    "in the model's config.yaml.",
                    "percentunit",
                    [
                        Query(
                            _rate("convd_shadow_agreements_total", "model, version, candidate, of")
                            + " / ignoring (of) group_left "
                            + _rate(
                                "convd_shadow_total_variation_ratio_count",
                                "model, version, candidate",
                            ),
                            "{{model}} {{version}} and {{candidate}} {{of}}",
                        )
                    ],
                    largest=1,
                ),
                Panel(
                    "Total variation",
                    "How far the answers of both versions to an image are apart: half the sum of "
                    "the differences of all probabilities.",
                    "percentunit",
                    [
                        Query(
                            _mean(
                                "convd_shadow_total_variation_ratio", "model, version, candidate"
                            ),
                            "{{model}} {{version}} and {{candidate}}",
                        )
                    ],
                    largest=1,
                ),
                Panel(
                    "Images that were to be compared",
                    "Images by what became of them. Dropped: requests left no idle time before the "
                    "queue was full, so compare a smaller share or give the server a pause.",
                    "ops",
                    [
                        Query(
                            _rate("convd_shadow_images_total", "model, version, outcome"),
                            "{{model}} {{version}} {{outcome}}",
                        )
                    ],
                ),
            ),
        ),
    ),
)


def _per_process(metric: str) -> str:
    return f"{metric}{{{_INSTANCE}}}"


def _of_gpu(metric: str) -> list[Query]:
    return [Query(_per_process(metric), "{{instance}} GPU {{gpu}} {{name}}")]


HARDWARE = Dashboard(
    uid="convd-hardware",
    title="convd: Hardware",
    description="What the servers take of their machines.",
    variables=_VARIABLES[:1],
    rows=(
        (
            "Process",
            (
                Panel(
                    "Processor",
                    "Cores that each server keeps busy.",
                    "none",
                    [
                        Query(
                            f"rate({_per_process('process_cpu_seconds_total')}[$__rate_interval])",
                            "{{instance}}",
                        )
                    ],
                ),
                Panel(
                    "Memory",
                    "Resident memory. It may grow until every batch size has been seen; after that "
                    "it should not.",
                    "bytes",
                    [Query(_per_process("process_resident_memory_bytes"), "{{instance}}")],
                ),
                Panel(
                    "Threads",
                    "All threads of the process: those of calls, of the engine and of gRPC.",
                    "none",
                    [Query(_per_process("convd_process_threads"), "{{instance}}")],
                ),
                Panel(
                    "File descriptors",
                    "Share of the file descriptors that the process may have; each connection "
                    "takes one.",
                    "percentunit",
                    [
                        Query(
                            f"{_per_process('process_open_fds')} "
                            f"/ {_per_process('process_max_fds')}",
                            "{{instance}}",
                        )
                    ],
                    thresholds=(0.8,),
                    largest=1,
                ),
                Panel(
                    "Garbage collections",
                    "Collections per second by generation. Many of generation 2 cost latency.",
                    "ops",
                    [
                        Query(
                            "sum by (generation) (rate("
                            f"{_per_process('python_gc_collections_total')}[$__rate_interval]))",
                            "generation {{generation}}",
                        )
                    ],
                ),
                Panel(
                    "Running since",
                    "When each server was started. A jump is a restart.",
                    "dateTimeAsIso",
                    [Query(f"{_per_process('process_start_time_seconds')} * 1000", "{{instance}}")],
                    kind="stat",
                ),
            ),
        ),
        (
            "GPU (empty where there is none)",
            (
                Panel(
                    "GPU busy",
                    "Share of the time in which a kernel ran. It does not say how full the GPU is "
                    "meanwhile.",
                    "percentunit",
                    _of_gpu("convd_gpu_busy_ratio"),
                    largest=1,
                ),
                Panel(
                    "GPU memory in use",
                    "Memory of the GPU in use, by anyone.",
                    "bytes",
                    _of_gpu("convd_gpu_memory_used_bytes"),
                ),
                Panel(
                    "GPU memory, share",
                    "Share of the GPU's memory that is in use.",
                    "percentunit",
                    [
                        Query(
                            f"{_per_process('convd_gpu_memory_used_bytes')} "
                            f"/ {_per_process('convd_gpu_memory_total_bytes')}",
                            "{{instance}} GPU {{gpu}} {{name}}",
                        )
                    ],
                    thresholds=(0.9,),
                    largest=1,
                ),
                Panel(
                    "GPU temperature",
                    "Temperature of the chip. Above about 85 degrees GPUs slow themselves down.",
                    "celsius",
                    _of_gpu("convd_gpu_temperature_celsius"),
                    thresholds=(85,),
                ),
                Panel(
                    "GPU power",
                    "Power drawn now; near the limit of the card it slows itself down.",
                    "watt",
                    _of_gpu("convd_gpu_power_watts"),
                ),
                Panel(
                    "GPU energy per image",
                    "Energy of the GPUs divided by the images classified in the same time.",
                    "joule",
                    [
                        Query(
                            "sum(rate("
                            f"{_per_process('convd_gpu_energy_joules_total')}[$__rate_interval])) "
                            "/ sum(rate("
                            f"{_per_process('convd_images_total')}[$__rate_interval]))",
                            "joules per image",
                        )
                    ],
                ),
            ),
        ),
    ),
)

DASHBOARDS = (SERVICE, MODEL, HARDWARE, EDGE)
