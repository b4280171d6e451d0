"""Serving against its peers: one command for one core, one for an accelerator.

    python -m benchmarks.serve cpu --folder DIR [--rows W1,W3] [--repeats 5] [--again] [--write]
    python -m benchmarks.serve gpu --folder DIR ...

DIR keeps bases, adapters, peers' environments and every finished repeat; what is there is not made or measured again.
A row is named by its first words: W1 is all three precisions. `--again` measures the named rows anew, all engines in
turns, as ratios want it. `--write` puts the JSON into results/ and the table into RESULTS.md; else it is printed.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.core import TRIES, pin
from benchmarks.serve import checkpoints, rows, table
from benchmarks.serve.arms import KINDS, Arm
from benchmarks.serve.journal import Journal
from benchmarks.serve.measure import Bench
from benchmarks.serve.peers.wire import Absent
from inhouse import device as devices


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve")
    parser.add_argument("machine", choices=("cpu", "gpu"))
    parser.add_argument(
        "--folder", type=Path, required=True, help="for everything that is made, and the journal"
    )
    parser.add_argument(
        "--rows", default="", help="first words of rows' names, separated by commas; default: all"
    )
    parser.add_argument("--engines", default="", help="only these, separated by commas")
    parser.add_argument("--repeats", type=int, default=5, help="0: the gate alone")
    parser.add_argument("--tries", type=int, default=TRIES, help="of a repeat that was not alone")
    parser.add_argument("--core", type=int, help="the one that everything runs on; default: the last")
    parser.add_argument(
        "--device", help="as the settings name it; default: cpu, or the machine's accelerator"
    )
    parser.add_argument("--again", action="store_true", help="measure the rows anew")
    parser.add_argument("--here", action="store_true", help="peers run in this environment, not in their own")
    parser.add_argument("--tiny", action="store_true", help="tiny bases and loads: tries the harness itself")
    parser.add_argument("--write", action="store_true", help="put the results into results/ and RESULTS.md")
    options = parser.parse_args(arguments)
    on_cpu = options.machine == "cpu"
    if on_cpu:
        core = pin(options.core)
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = str(core)
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["VLLM_CACHE_ROOT"] = str(options.folder / "vllm")
    chosen = pick(rows.CPU if on_cpu else rows.GPU, options.rows, options.engines, is_tiny=options.tiny)
    journal = Journal(options.folder / f"serve-{options.machine}{'-tiny' if options.tiny else ''}.jsonl")
    device = options.device or ("cpu" if on_cpu else devices.pick("auto").label)
    if options.again:
        for row in chosen:
            journal.forget(row.key)
    bench = Bench(options.folder, journal, options.repeats, device, options.here, options.tries, options.tiny)
    bench.run(chosen)
    if options.again or journal.about("profile", "profile") is None:
        profile(bench, "tiny" if options.tiny else "400m" if on_cpu else "8b")
    found = collect(bench, chosen)
    name = f"serve-{options.machine}"
    shown = f"{table.markdown(found)}\n\n{table.profile_table(found['profile'])}"
    if options.write:
        table.dump(found, results.FOLDER / f"{name}.json")
        results.put(name, f"`{found['command']}`: {results.place(found['machine'])}\n\n{shown}")
    else:
        table.dump(found, options.folder / f"{name}.json")
    print(shown)


def pick(every: tuple[rows.Row, ...], names: str, engines: str, *, is_tiny: bool) -> list[rows.Row]:
    """The rows that are named, with the engines that are."""
    wanted = tuple(filter(None, names.split(",")))
    kept = set(filter(None, engines.split(",")))
    if unknown := kept - set(KINDS):
        raise SystemExit(f"There is no engine {sorted(unknown)[0]!r}. Known are: {', '.join(KINDS)}.")
    chosen = [row for row in every if not wanted or f"{row.key} ".startswith(tuple(f"{n} " for n in wanted))]
    if not chosen:
        raise SystemExit(f"No row is called {names!r}. Rows are: {', '.join(row.key for row in every)}.")
    if kept:
        chosen = [replace(row, engines=tuple(e for e in row.engines if e in kept)) for row in chosen]
    return [rows.shrunk(row) for row in chosen] if is_tiny else chosen


def profile(bench: Bench, base: str) -> None:
    """Where the time of our decoding goes, with 8 adapters and 32 sequences."""
    load = rows.Load(base, 4 if base == "tiny" else 32, prompt=16, new=9, adapters=4 if base == "tiny" else 8)
    arm = Arm(KINDS[rows.OURS], bench.folder)
    try:
        folder = checkpoints.base(bench.folder, base)
        arm.ask(
            "open", base=str(folder), precision="bf16", context=1024, device=bench.device, adapters_at_once=8
        )
        arm.ask("run", asks=load.asks(bench.folder, 0))
        bench.journal.add(row="profile", profile=arm.ask("profile", asks=load.asks(bench.folder, 1)))
    except Absent as e:
        raise SystemExit(f"The profile failed: {e}") from e
    finally:
        arm.end()


def collect(bench: Bench, chosen: list[rows.Row]) -> dict[str, Any]:
    """All that goes into the JSON."""
    found = table.Found(bench.journal, chosen)
    return {
        "machine": results.machine(),
        "command": results.command("benchmarks.serve"),
        "peers": table.versions(bench.folder, chosen),
        "lines": found.lines(),
        "absences": found.absences(),
        "gates": found.gates(),
        "profile": bench.journal.about("profile", "profile"),
        "journal": [entry for entry in bench.journal.entries if entry["row"] in {row.key for row in chosen}],
    }


if __name__ == "__main__":
    main()
