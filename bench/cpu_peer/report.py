"""Prints a comparison's rounds as tables."""

import statistics

from work import POINTS, flop, read_bytes

OPS_LIMIT = {"bf16": "bf16_gflop_per_s", "int8": "int8_gop_per_s", "int4": "int8_gop_per_s"}
LIMIT_NAMES = [("read_gb_per_s", "memory read", "GB/s"),
               ("bf16_gflop_per_s", "bf16 vdpbf16ps", "GFLOP/s"),
               ("int8_gop_per_s", "int8 vpdpbusd", "GOP/s"),
               ("fp32_gflop_per_s", "fp32 FMA", "GFLOP/s")]


def median(rounds):
    return statistics.median(rounds)


def spread(values, digits):
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def share(value, limit):
    return f"{value / limit:4.0%}" if limit else "   -"


def print_limits(limits):
    """limits: of each round, {threads: {name: value}}. Returns the medians of the most threads."""
    threads = sorted(limits[0])
    print(f"\n{'limit, median (and best)':26}" + "".join(f"{n:>10} thread{'s' * (n > 1)}" + " " * 9
                                                         for n in threads))
    medians = {}
    for name, label, unit in LIMIT_NAMES:
        line = f"{label + ', ' + unit:26}"
        for n in threads:
            values = [of_round[n][name] for of_round in limits]
            if None in values:
                line += f"{'-':>16}"
                medians[name] = None
                continue
            medians[name] = median(values)
            line += f"{medians[name]:>12.1f} ({max(values):.1f})".ljust(26)
        print(line)
    return medians


def setting_name(setting):
    flash, ubatch, unified = setting
    return f"fa={flash} ubatch={ubatch}" + (" unified KV" if unified else "")


def print_comparison(comparison, limits):
    """Returns {point: median ratio}. comparison: see compare.py."""
    config, weights = comparison["config"], comparison["weights"]
    print(f"\n{comparison['name']}: fastest of a round's repeats, median of "
          f"{len(comparison['seconds']['baton'][POINTS[0].name])} rounds (least to most)")
    print(f"{'':12}{'':10}{'tokens/s':>9} {'':18}{'GFLOP/s':>9} {'of limit':>8} {'GB/s':>7} "
          f"{'of limit':>8}")
    ratios = {}
    for point in POINTS:
        seconds = {who: comparison["seconds"][who][point.name] for who in ("baton", "llama")}
        for who, label in (("baton", "Baton"), ("llama", "llama.cpp")):
            rates = [point.total_tokens / s for s in seconds[who]]
            middle = median(seconds[who])
            gflop = 1e-9 * flop(config, point) / middle
            gbyte = 1e-9 * read_bytes(config, point, comparison["bytes"][who]) / middle
            note = setting_name(comparison["settings"][point.name]) if who == "llama" else ""
            print(f"{point.name:12}{label:10}{median(rates):9.1f} "
                  f"{'(' + spread(rates, 1) + ')':18}{gflop:9.1f} "
                  f"{share(gflop, limits[OPS_LIMIT[weights]]):>8} {gbyte:7.1f} "
                  f"{share(gbyte, limits['read_gb_per_s']):>8}  {note}")
        of_rounds = [theirs / ours for ours, theirs in zip(seconds["baton"], seconds["llama"])]
        ratios[point.name] = median(of_rounds)
        print(f"{'':12}{'ratio':10}{ratios[point.name]:9.2f} {'(' + spread(of_rounds, 2) + ')':18}"
              f" of the bests {min(seconds['llama']) / min(seconds['baton']):.2f}")
    return ratios


def ratio_line(label, ratios):
    """The line that scripts read; `ratios` is None for a comparison that could not be made."""
    values = " ".join(
        f"{point.name}={f'{ratios[point.name]:.2f}' if ratios else 'n/a'}" for point in POINTS)
    return f"{label} {values}"
