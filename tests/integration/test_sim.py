"""`baton sim`: what explores faults and shows one of them again."""

import re
import subprocess

from cluster import BATON, ROOT


def sim(*arguments):
    return subprocess.run([str(BATON), "sim", *map(str, arguments)], capture_output=True, text=True,
                          timeout=240, check=False, cwd=ROOT)


def test_explore_ends_with_the_count():
    run = sim("explore", "--seeds", 500, "--mutant-seeds", 0)
    assert run.returncode == 0, run.stdout
    assert run.stdout.splitlines()[-1] == "500 seeds, 0 failures, mutants 0/0 caught"
    quiet = sim("explore", "--seeds", 20, "--mutant-seeds", 0, "--quiet", "--first-seed", 77)
    assert quiet.stdout == "20 seeds, 0 failures, mutants 0/0 caught\n"


def test_a_mutant_that_is_not_caught_is_a_failure():
    run = sim("explore", "--seeds", 1, "--mutant-seeds", 1)
    last = run.stdout.splitlines()[-1]
    caught, mutants = map(int, re.fullmatch(
        r"1 seeds, 0 failures, mutants (\d+)/(\d+) caught", last).groups())
    assert 0 < caught < mutants
    assert "NOT CAUGHT" in run.stdout
    assert run.returncode == 1


def test_replay_shows_a_history():
    run = sim("replay", 42)
    assert run.returncode == 0, run.stdout
    assert re.search(r"^ +\d+\.\d{3}  router +request 1 came$", run.stdout, re.M), run.stdout
    assert run.stdout.splitlines()[-1].endswith("every invariant held")


def test_replay_of_a_mutant_ends_with_what_broke():
    run = sim("replay", 1, "--mutant", "early_unpin")
    assert run.returncode == 1, run.stdout
    assert re.search(r"^ +\d+\.\d{3}  VIOLATION +H7: ", run.stdout, re.M), run.stdout


def test_what_is_wrong_on_the_command_line():
    for arguments, words in [(["replay", "x"], '"x" is not a number'),
                             (["replay", "1", "--mutant", "none"], "there are release_on_timeout"),
                             (["explore", "--seeds", "0"], "seeds")]:
        run = sim(*arguments)
        assert run.returncode == 2, run.stderr
        assert words in run.stderr
