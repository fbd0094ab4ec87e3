"""How much of the CPUs other processes took while something was measured.

Spinning barriers lose whole time slices to a process that holds one of their CPUs: what was
measured then says nothing of the machine.
"""

import os
import time

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def busy_seconds(cpus):
    """That these CPUs were not idle, since boot."""
    busy = 0
    with open("/proc/stat") as stat:
        for line in stat:
            name, *fields = line.split()
            if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cpus:
                ticks = [int(field) for field in fields[:8]]
                busy += sum(ticks) - ticks[3] - ticks[4]  # idle and iowait
    return busy / TICKS_PER_S


def process_seconds(pid):
    """CPU time of a process and all of its threads."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


class OtherLoad:
    """Between start and share(): the fraction of the CPUs' time that was not the process's."""

    def __init__(self, cpus, pid):
        self.cpus, self.pid = set(cpus), pid
        self.start = self.now()

    def now(self):
        return time.monotonic(), busy_seconds(self.cpus), process_seconds(self.pid)

    def share(self):
        wall, busy, own = (end - start for start, end in zip(self.start, self.now()))
        return max(0.0, busy - own) / (max(wall, 1e-6) * len(self.cpus))
