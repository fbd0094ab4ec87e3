"""The dashboards of Baton's own series: SLO and goodput, P/D flow, engine.

Router and workers share some names; worker="" picks the router's series.
"""

from panels import Dashboard, Panel, Row, quantiles, rate

CLASS = 'slo_class=~"$slo_class"'
WORKER = 'worker=~"$worker"'


def burn(kind, window):
    return (f"(1 - baton:{kind}:ratio_rate{window}) / (1 - scalar(baton:{kind}_objective:ratio))",
            f"{{{{slo_class}}}} over {window}")


def class_share(record):
    return f"{record}{{{CLASS}}}"


SLO = Dashboard(
    uid="baton-slo", title="Baton: SLO and goodput",
    description="Who got what was promised, and which stage spent the budget of those who did not.",
    variables={"slo_class": "label_values(baton_slo_requests_total, slo_class)"},
    rows=[
        Row("Now", height=5, panels=[
            Panel("Goodput ratio, last hour", [(class_share("baton:goodput:ratio_rate1h"),
                                                "{{slo_class}}")],
                  unit="percentunit", kind="stat", maximum=1,
                  description="Good requests of all that ended. Rejected, failed and aborted "
                              "requests are not good."),
            Panel("Good requests", [(rate("baton_slo_requests_total", "",
                                          f'result="good", {CLASS}'), "good")],
                  unit="reqps", kind="stat"),
            Panel("Goodput tokens", [(rate("baton_goodput_tokens_total"), "tokens/s")],
                  unit="short", kind="stat",
                  description="Tokens per second of requests that met both objectives."),
            Panel("Fastest burn, last hour",
                  [("max((1 - baton:goodput:ratio_rate1h)"
                    " / (1 - scalar(baton:goodput_objective:ratio)))", "burn rate")],
                  kind="stat", thresholds=[(1, "yellow"), (6, "orange"), (14.4, "red")],
                  description="1 spends the error budget exactly; 14.4 pages."),
            Panel("Alerts firing", [('count(ALERTS{alertname=~"Baton.+", alertstate="firing"})'
                                     " or vector(0)", "alerts")],
                  kind="stat", thresholds=[(1, "red")]),
            Panel("Availability, last hour", [(class_share("baton:availability:ratio_rate1h"),
                                               "{{slo_class}}")],
                  unit="percentunit", kind="stat", maximum=1),
        ]),
        Row("Goodput", panels=[
            Panel("Goodput against throughput",
                  [(rate("baton_slo_requests_total", "slo_class", f'result="good", {CLASS}'),
                    "{{slo_class}} good"),
                   (rate("baton_slo_requests_total", "slo_class", CLASS), "{{slo_class}} all")],
                  unit="reqps", dashed=".* all",
                  description="The gap between the lines is work done for nothing, or refused."),
            Panel("How requests ended", [(rate("baton_slo_requests_total", "result", CLASS),
                                          "{{result}}")], unit="reqps", stacked=True),
            Panel("Stage that missed", [(rate("baton_slo_requests_total", "missed_stage",
                                              'result=~"ttft_miss|tpot_miss|both", ' + CLASS),
                                         "{{missed_stage}}")], unit="reqps", stacked=True,
                  description="Of requests that missed an objective: the stage that took longest."),
        ]),
        Row("Objectives", panels=[
            Panel("Goodput ratio by window",
                  [(class_share(f"baton:goodput:ratio_rate{w}"), f"{{{{slo_class}}}} {w}")
                   for w in ("5m", "1h", "6h", "3d")]
                  + [("baton:goodput_objective:ratio", "objective")],
                  unit="percentunit", maximum=1, dashed="objective"),
            Panel("Burn rate of the goodput budget", [burn("goodput", w) for w in ("5m", "1h", "6h")],
                  thresholds=[(1, "yellow"), (6, "orange"), (14.4, "red")]),
            Panel("Burn rate of the availability budget",
                  [burn("availability", w) for w in ("5m", "1h", "6h")],
                  thresholds=[(1, "yellow"), (6, "orange"), (14.4, "red")]),
            Panel("Attainment of each objective",
                  [(class_share("baton:ttft_attainment:ratio_rate5m"), "{{slo_class}} TTFT"),
                   (class_share("baton:tpot_attainment:ratio_rate5m"), "{{slo_class}} TPOT")],
                  unit="percentunit", maximum=1),
        ]),
        Row("Latency at the router", panels=[
            Panel("Time to first token", quantiles("baton_time_to_first_token_seconds")
                  + [(f'baton_slo_threshold_seconds{{metric="ttft", {CLASS}}}',
                      "objective {{slo_class}}")], unit="s", dashed="objective.*"),
            Panel("Time per output token", quantiles("baton_time_per_output_token_seconds")
                  + [(f'baton_slo_threshold_seconds{{metric="tpot", {CLASS}}}',
                      "objective {{slo_class}}")], unit="s", dashed="objective.*",
                  description="Requests with one output token have none."),
            Panel("Gap between tokens", quantiles("baton_inter_token_latency_seconds"), unit="s"),
            Panel("Whole request", quantiles("baton_e2e_request_latency_seconds"), unit="s"),
        ]),
        Row("Admission", panels=[
            Panel("Verdicts", [(rate("baton_router_admission_total", "verdict"), "{{verdict}}")],
                  unit="reqps", stacked=True,
                  description="floor: cannot be met even by an idle cluster. ttft, tpot: predicted to "
                              "miss. shed: a class that goes first."),
            Panel("Median error of predictions",
                  [("histogram_quantile(0.5, sum by (metric, le) "
                    "(rate(baton_router_prediction_error_ratio_bucket[$__rate_interval])))",
                    "{{metric}}")], unit="percentunit", thresholds=[(0.3, "red")],
                  description="Above 0.3 admission is guessing."),
            Panel("HTTP answers", [(rate("baton_http_responses_total", "status"), "{{status}}")],
                  unit="reqps", stacked=True),
        ]),
    ])

FLOW = Dashboard(
    uid="baton-flow", title="Baton: prefill and decode flow",
    description="Requests on their way through queue, prefill, transfer and decode, and whether the "
                "two pools are in balance.",
    rows=[
        Row("Requests", panels=[
            Panel("At the router", [('baton_requests_waiting{worker=""}', "waiting"),
                                    ('baton_requests_running{worker=""}', "running")]),
            Panel("Live workers", [("baton_workers_alive", "{{role}}")]),
            Panel("Ways that requests went", [(rate("baton_router_placements_total", "path"),
                                               "{{path}}")], unit="reqps", stacked=True),
            Panel("Attempts made again", [(rate("baton_request_retries_total"), "retries")],
                  unit="reqps"),
        ]),
        Row("Stages", panels=[
            Panel("Median by stage", [("baton:request_stage_seconds:p50_rate5m", "{{stage}}")],
                  unit="s"),
            Panel("p90 by stage", [("baton:request_stage_seconds:p90_rate5m", "{{stage}}")],
                  unit="s"),
            Panel("p99 by stage", [("baton:request_stage_seconds:p99_rate5m", "{{stage}}")],
                  unit="s"),
        ]),
        Row("Balance", panels=[
            Panel("Busy share of each pool", [("baton:pool_busy:ratio_rate5m", "{{role}}")],
                  unit="percentunit", maximum=1,
                  description="Time computing steps. A decode pool is busy while it has any "
                              "sequence: read it with its KV use."),
            Panel("Prefill over decode", [("baton:pd_busy:ratio_rate5m", "prefill / decode")],
                  description="Busy shares. Above 1 prefill is the busier side."),
            Panel("KV use of each pool", [("baton:pool_kv_usage:ratio", "{{role}}")],
                  unit="percentunit", maximum=1),
            Panel("Requests that could start now", [("sum by (role) (baton_worker_credits)",
                                                     "{{role}}")]),
        ]),
        Row("KV transfer", panels=[
            Panel("Bytes per second by pair",
                  [("sum by (src, dst, transport) "
                    "(rate(baton_kv_transfer_pair_bytes_total[$__rate_interval]))",
                    "{{src}} → {{dst}} ({{transport}})")], unit="Bps"),
            Panel("Speed while bytes move",
                  [("baton:kv_transfer_bandwidth:rate5m", "{{src}} → {{dst}} ({{transport}})")],
                  unit="Bps", description="Bytes over transfer time: what the link gives, with the "
                                          "wait for layers that are still computed."),
            Panel("Transfer time", quantiles("baton_kv_transfer_seconds"), unit="s",
                  description="From a handoff's first byte to its seal."),
            Panel("Exposed transfer time", quantiles("baton_kv_transfer_exposed_seconds"),
                  unit="s", description="What no computation hid."),
        ]),
        Row("Handoffs that failed", panels=[
            Panel("Failures by reason", [(rate("baton_kv_transfer_failures_total", "side, reason"),
                                          "{{side}} {{reason}}")], unit="ops"),
            Panel("Blocks in quarantine", [('baton_kv_blocks{state="quarantined"}', "{{worker}}")],
                  description="More than a moment: a peer died during a handoff."),
            Panel("Transfers by transport", [(rate("baton_kv_transfer_seconds_count", "transport"),
                                              "{{transport}}")], unit="ops", stacked=True),
        ]),
        Row("Prefix caches", panels=[
            Panel("Tokens found in the cache", [("baton:prefix_cache_hit:ratio_rate5m", "{{role}}")],
                  unit="percentunit", maximum=1),
            Panel("What the router knows of", [("baton_router_prefix_index_entries", "entries")]),
            Panel("Lost counts asked for anew", [(rate("baton_router_kv_resyncs_total"),
                                                  "resyncs")], unit="ops"),
        ]),
    ])

ENGINE = Dashboard(
    uid="baton-engine", title="Baton: engine",
    description="What each worker computes, how long its steps take, and how full its KV pool is.",
    variables={"worker": "label_values(baton_step_seconds_count, worker)"},
    rows=[
        Row("Steps", panels=[
            Panel("Median step", [("histogram_quantile(0.5, sum by (worker, kind, le) (rate("
                                   f"baton_step_seconds_bucket{{{WORKER}}}[$__rate_interval])))",
                                   "{{worker}} {{kind}}")], unit="s"),
            Panel("p99 step", [("histogram_quantile(0.99, sum by (worker, kind, le) (rate("
                                f"baton_step_seconds_bucket{{{WORKER}}}[$__rate_interval])))",
                                "{{worker}} {{kind}}")], unit="s"),
            Panel("Steps per second", [(rate("baton_step_seconds_count", "worker, kind", WORKER),
                                        "{{worker}} {{kind}}")], unit="ops"),
            Panel("Share of time in steps", [(rate("baton_step_seconds_sum", "worker", WORKER),
                                              "{{worker}}")], unit="percentunit", maximum=1),
        ]),
        Row("Batches", panels=[
            Panel("Prompt tokens in a step",
                  [(rate("baton_engine_step_prefill_tokens_sum", "worker", WORKER) + " / "
                    + rate("baton_engine_step_prefill_tokens_count", "worker", WORKER),
                    "{{worker}}")]),
            Panel("Decoding samples in a step",
                  [(rate("baton_engine_step_decode_rows_sum", "worker", WORKER) + " / "
                    + rate("baton_engine_step_decode_rows_count", "worker", WORKER),
                    "{{worker}}")]),
            Panel("Running and waiting", [(f"baton_requests_running{{{WORKER}}}",
                                           "{{worker}} running"),
                                          (f"baton_requests_waiting{{{WORKER}}}",
                                           "{{worker}} waiting")]),
            Panel("Samples put back", [(rate("baton_preemptions_total", "worker", WORKER),
                                        "{{worker}}")], unit="ops",
                  description="Preemptions for want of KV blocks."),
        ]),
        Row("Tokens", panels=[
            Panel("Prompt tokens", [(rate("baton_prompt_tokens_total", "worker", WORKER),
                                     "{{worker}}")], description="Per second."),
            Panel("Generated tokens", [(rate("baton_generation_tokens_total", "worker", WORKER),
                                        "{{worker}}")], description="Per second."),
            Panel("Prefix cache, tokens found",
                  [(rate("baton_prefix_cache_hits_total", "worker", WORKER) + " / "
                    + rate("baton_prefix_cache_queries_total", "worker", WORKER), "{{worker}}")],
                  unit="percentunit", maximum=1),
            Panel("Requests that failed here", [(rate("baton_worker_requests_failed_total",
                                                      "worker", WORKER), "{{worker}}")],
                  unit="ops"),
        ]),
        Row("KV pool", panels=[
            Panel("KV use", [(f"baton_kv_cache_usage_ratio{{{WORKER}}}", "{{worker}}")],
                  unit="percentunit", maximum=1, description="Blocks neither free nor cached."),
            Panel("Blocks by state", [(f"sum by (state) (baton_kv_blocks{{{WORKER}}})",
                                       "{{state}}")], stacked=True),
            Panel("Requests held", [(f"baton_worker_requests_open{{{WORKER}}}", "{{worker}}")]),
        ]),
        Row("Step model", panels=[
            Panel("Error of predictions", [(f"baton_step_model_error_ratio{{{WORKER}}}",
                                            "{{worker}}")], unit="percentunit",
                  thresholds=[(0.3, "red")], description="Moving mean of |predicted - measured| / "
                                                         "measured."),
            Panel("Predicted over measured",
                  [(rate("baton_step_predicted_seconds_total", "worker", WORKER) + " / "
                    + rate("baton_step_seconds_sum", "worker", WORKER), "{{worker}}")]),
            Panel("Correction since calibration", [(f"baton_step_model_factor{{{WORKER}}}",
                                                    "{{worker}} {{kind}}")],
                  description="Measured over calibrated step time."),
            Panel("Age of the running step", [(f"baton_worker_step_age_seconds{{{WORKER}}}",
                                               "{{worker}}")], unit="s",
                  thresholds=[(30, "red")]),
        ]),
    ])
