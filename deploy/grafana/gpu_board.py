"""The GPU dashboard. Its series come from NVIDIA's dcgm-exporter, not from Baton: the names are those of
the exporter's default-counters.csv. Where GPUs have no exporter it stays empty."""

from panels import Dashboard, Note, Panel, Row

GPU = 'gpu=~"$gpu", Hostname=~"$host"'
LEGEND = "{{Hostname}} {{gpu}}"


def gauge(name):
    return f"{name}{{{GPU}}}"


GPU_BOARD = Dashboard(
    uid="baton-gpu", title="Baton: GPU",
    description="Series of NVIDIA's dcgm-exporter (scrape job dcgm).",
    variables={"host": "label_values(DCGM_FI_DEV_GPU_UTIL, Hostname)",
               "gpu": "label_values(DCGM_FI_DEV_GPU_UTIL, gpu)"},
    rows=[
        Row("Where this comes from", height=3, panels=[
            Note("", "Only hosts with GPUs that run NVIDIA's **dcgm-exporter** (scrape job `dcgm`) show "
                     "anything here. The series are the exporter's default ones, not Baton's; what "
                     "Baton's own workers do is on the *engine* board."),
        ]),
        Row("Load", panels=[
            Panel("GPU utilization", [(gauge("DCGM_FI_DEV_GPU_UTIL"), LEGEND)], unit="percent",
                  maximum=100, description="Share of time with a kernel running, however small."),
            Panel("Memory controller utilization", [(gauge("DCGM_FI_DEV_MEM_COPY_UTIL"), LEGEND)],
                  unit="percent", maximum=100),
            Panel("SM clock", [(gauge("DCGM_FI_DEV_SM_CLOCK") + " * 1e6", LEGEND)], unit="hertz"),
        ]),
        Row("Memory", panels=[
            Panel("Memory used", [(gauge("DCGM_FI_DEV_FB_USED") + " * 1048576", LEGEND)],
                  unit="bytes"),
            Panel("Memory free", [(gauge("DCGM_FI_DEV_FB_FREE") + " * 1048576", LEGEND)],
                  unit="bytes"),
            Panel("Memory clock", [(gauge("DCGM_FI_DEV_MEM_CLOCK") + " * 1e6", LEGEND)],
                  unit="hertz"),
        ]),
        Row("Power and heat", panels=[
            Panel("Power", [(gauge("DCGM_FI_DEV_POWER_USAGE"), LEGEND)], unit="watt"),
            Panel("Energy for a thousand good tokens",
                  [("sum(rate(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION[$__rate_interval])) / 1000"
                    " / sum(rate(baton_goodput_tokens_total[$__rate_interval])) * 1000",
                    "all GPUs")], unit="joule"),
            Panel("Temperature", [(gauge("DCGM_FI_DEV_GPU_TEMP"), LEGEND + " chip"),
                                  (gauge("DCGM_FI_DEV_MEMORY_TEMP"), LEGEND + " memory")],
                  unit="celsius"),
        ]),
        Row("Links and errors", panels=[
            Panel("NVLink bandwidth counter",
                  [(f"rate(DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL{{{GPU}}}[$__rate_interval])", LEGEND)],
                  description="All lanes. KV between GPUs of one host goes here."),
            Panel("PCIe replays",
                  [(f"rate(DCGM_FI_DEV_PCIE_REPLAY_COUNTER{{{GPU}}}[$__rate_interval])", LEGEND)],
                  unit="ops"),
            Panel("Last XID error", [(gauge("DCGM_FI_DEV_XID_ERRORS"), LEGEND)],
                  thresholds=[(1, "red")]),
            Panel("Remapped rows",
                  [(gauge("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS"), LEGEND + " uncorrectable"),
                   (gauge("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"), LEGEND + " correctable")]),
        ]),
    ])
