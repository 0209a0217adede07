"""Can the gate be trusted? `python bench/gate_trial.py --runs 20`: the gate against itself, some 20 minutes.

No run may find anything. With `--slow NAME --by 1.15` a kernel or an operation is slowed on purpose, in
all processes of the gate and wherever it is called: it spins for 15 % of the time that it took. Each run
then has to find it, in the rows of one thread. `--slow each` does so for all that have a row, one after
another; with `--runs 1`, once each, in some minutes, as these runs do not pause before they measure again.

Printed are the rates, and how bad they may be in truth: the 95 % bound of Clopper and Pearson. Of rates
that are no better than promised (false alarms in fewer than 1 of 20 runs, 19 of 20 caught) the exit
status is 1.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

from scipy.stats import beta

from gate_rows import CALLS, ONE, ROWS

GATE = pathlib.Path(__file__).with_name("gate.py")
EACH = "each"
CAUGHT = 0.95
# Runs from which on the rate of one row by itself is looked at.
ENOUGH = 20


def verdicts(*options: str) -> dict[str, str]:
    """Of one run of the gate, by row."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "verdicts.json"
        command = [sys.executable, str(GATE), "--json", str(path), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if not path.exists():
            raise RuntimeError(f"The gate ended with {done.returncode} and no verdicts:\n{done.stdout}")
        found: dict[str, str] = json.loads(path.read_text())
    return found


def bound(wrong: int, runs: int) -> float:
    """The largest rate at which `wrong` of `runs`, or fewer, still come about in one of 20 trials."""
    return float(beta.ppf(0.95, wrong + 1, runs - wrong)) if wrong < runs else 1.0


def false_alarms(runs: int, options: list[str]) -> bool:
    """Whether too many runs of the gate against itself find something."""
    alarms, noisy, which = 0, 0, collections.Counter[str]()
    for i in range(runs):
        said = verdicts(*options)
        slower = [name for name, word in said.items() if word == "slower"]
        unsure = [name for name, word in said.items() if word == "noisy"]
        alarms, noisy = alarms + bool(slower), noisy + bool(unsure and not slower)
        which.update(slower)
        print(f"run {i + 1:3}  slower: {'; '.join(slower) or 'nothing'}", flush=True)
        if unsure:
            print(f"         noisy: {'; '.join(unsure)}", flush=True)
    print(f"\nFalse alarms: {alarms} of {runs} runs, at most {bound(alarms, runs):.0%} in truth; "
          f"{noisy} too noisy to tell.")  # fmt: skip
    for name, times in which.most_common():
        print(f"  {times:3} {name}")
    return alarms > 0 and alarms >= (1.0 - CAUGHT) * runs


def caught(names: list[str], by: float, runs: int) -> bool:
    """Whether some row misses what is slowed too often."""
    print(f"{'slowed ' + format(by - 1.0, '.0%') + ', row':<48}{'caught':>10}{'missed at most':>16}")
    all_found, all_runs, missed_any = 0, 0, False
    for what in names:
        rows = [name for name, row in ROWS.items() if row.what == what and row.threads == ONE]
        found = collections.Counter[str]()
        for _ in range(runs):
            said = verdicts("--only", what, "--threads", ONE, "--slow", what, "--by", str(by), "--pause", "0")
            found.update(name for name, word in said.items() if word == "slower")
        for name in rows:
            missed = runs - found[name]
            all_found, all_runs = all_found + found[name], all_runs + runs
            missed_any |= runs >= ENOUGH and found[name] < CAUGHT * runs
            print(f"{name:<48}{found[name]:>4} of {runs}{bound(missed, runs):>16.0%}", flush=True)
    print(f"\nCaught: {all_found} of {all_runs}, missed at most {bound(all_runs - all_found, all_runs):.0%}.")
    return missed_any or all_found < CAUGHT * all_runs


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    slowed = sorted({row.what for row in ROWS.values() if row.threads == ONE})
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--slow", nargs="+", default=[], metavar="NAME", choices=[EACH, *slowed])
    parser.add_argument("--by", type=float, default=1.15, help="how many times as long it then takes")
    parser.add_argument("--threads", choices=(ONE, "all"), help="of the runs against itself; by default both")
    asked = parser.parse_args()
    if not asked.slow:
        return false_alarms(asked.runs, ["--threads", asked.threads] if asked.threads else [])
    names = sorted(slowed, key=lambda name: (name not in CALLS, name)) if EACH in asked.slow else asked.slow
    return caught(names, asked.by, asked.runs)


if __name__ == "__main__":
    sys.exit(main())
