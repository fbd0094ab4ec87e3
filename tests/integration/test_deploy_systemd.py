"""The systemd units: understood by systemd, closed, and with flags that baton knows."""

import re
import shutil
import subprocess

import pytest
from cluster import BATON, DEMO, ROOT

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
MOST_EXPOSED = 20  # tenths, of systemd's 0 (closed) to 10 (open)

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None,
                                reason="systemd-analyze is not installed")


def analyze(*words):
    return subprocess.run(["systemd-analyze", *map(str, words)], capture_output=True, text=True,
                          timeout=60, check=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong_and_little_exposed(unit, tmp_path):
    installed = tmp_path / unit.name
    installed.write_text(unit.read_text().replace("/usr/local/bin/baton", "/bin/true"))
    verified = analyze("verify", installed)
    assert verified.returncode == 0 and unit.name not in verified.stderr, verified.stderr
    judged = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", installed)
    assert judged.returncode == 0, judged.stdout[-600:]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_baton_takes_its_command_line(unit, tmp_path):
    command = re.search(r"^ExecStart=\S+ (.*)$", unit.read_text(), re.M)[1].split()
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"model: {DEMO}\n" + ("workers: [127.0.0.1:9100]\n" if "router" in command
                                               else "role: decode\n"))
    command[command.index("--config") + 1] = str(settings)
    command = [word.replace("%i", "decode-0") for word in command]
    checked = subprocess.run([BATON, *command, "--check-config"], capture_output=True, text=True,
                             timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr


def test_both_are_there():
    assert [unit.name for unit in UNITS] == ["baton-router.service", "baton-worker@.service"]
