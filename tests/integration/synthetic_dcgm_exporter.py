"""A synthetic exporter in place of NVIDIA's dcgm-exporter: no machine that runs the tests has GPUs.

It serves the series of dcgm-exporter's etc/default-counters.csv, name by name and with their kinds, for
two GPUs. The values mean nothing: what is tested is that the dashboard asks for series that exist.
"""

import http.server
import threading

GAUGES = ("SM_CLOCK", "MEM_CLOCK", "MEMORY_TEMP", "GPU_TEMP", "POWER_USAGE", "GPU_UTIL",
          "MEM_COPY_UTIL", "ENC_UTIL", "DEC_UTIL", "XID_ERRORS", "FB_FREE", "FB_USED",
          "VGPU_LICENSE_STATUS", "ROW_REMAP_FAILURE")
COUNTERS = ("TOTAL_ENERGY_CONSUMPTION", "PCIE_TX_THROUGHPUT", "PCIE_RX_THROUGHPUT",
            "PCIE_REPLAY_COUNTER", "NVLINK_BANDWIDTH_TOTAL", "UNCORRECTABLE_REMAPPED_ROWS",
            "CORRECTABLE_REMAPPED_ROWS")


def render(scrape):
    """The exporter's text at its `scrape`-th scrape: counters grow with it."""
    lines = []
    for kind, names in (("gauge", GAUGES), ("counter", COUNTERS)):
        for name in names:
            lines.append(f"# TYPE DCGM_FI_DEV_{name} {kind}")
            for gpu in range(2):
                labels = (f'gpu="{gpu}",UUID="GPU-{gpu}",device="nvidia{gpu}",'
                          'modelName="synthetic",Hostname="synthetic-host"')
                value = 42 if kind == "gauge" else 1000 * scrape
                lines.append(f"DCGM_FI_DEV_{name}{{{labels}}} {value}")
    return "\n".join(lines) + "\n"


class SyntheticDcgmExporter:
    """Serves /metrics at `address` while its block runs."""

    def __init__(self):
        scrapes = iter(range(1, 1 << 30))

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = render(next(scrapes)).encode()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
