#!/usr/bin/env python3
"""Writes the dashboards as Grafana JSON into dashboards/.

  deploy/grafana/make_dashboards.py [--check]     --check: exit 1 when a file is not up to date
"""

import json
import pathlib
import sys

from gpu_board import GPU_BOARD
from serving_boards import ENGINE, FLOW, SLO

HERE = pathlib.Path(__file__).resolve().parent
BOARDS = {"slo.json": SLO, "flow.json": FLOW, "engine.json": ENGINE, "gpu.json": GPU_BOARD}


def main(arguments):
    check = arguments == ["--check"]
    if arguments and not check:
        print(__doc__, file=sys.stderr)
        return 2
    stale = []
    for name, board in BOARDS.items():
        path = HERE / "dashboards" / name
        text = json.dumps(board.to_json(), indent=1, ensure_ascii=False) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(name)
        elif not check:
            path.write_text(text)
    if stale:
        print(f"not up to date, run {sys.argv[0]}: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
