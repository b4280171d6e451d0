"""python -m benchmarks.memory all | bank | weights | using | larger | table | summary: see --help of each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    commands = parser.add_subparsers(dest="command", required=True)
    every = commands.add_parser(
        "all", help="the bank, its rivals and facts used, and the page; goes on where it was"
    )
    every.add_argument(
        "--corpus", type=Path, required=True, help="general text, as recipes/seedling reads it"
    )
    every.add_argument("--folder", type=Path, required=True, help="for finished runs, routers and adapters")
    weights = commands.add_parser("weights", help="tune the rivals and examine them; goes on where it was")
    weights.add_argument(
        "--corpus", type=Path, required=True, help="general text, as recipes/seedling reads it"
    )
    weights.add_argument("--out", type=Path, required=True, help="one JSON line a finished run")
    weights.add_argument("--n", type=int, action="append", default=[], choices=(100, 1000), help="facts")
    weights.add_argument("--only", choices=("lora", "abstain", "full"), help="one method alone")
    using = commands.add_parser(
        "using", help="facts in letters, JSON, comparisons and SQL; goes on where it was"
    )
    using.add_argument(
        "--corpus", type=Path, required=True, help="general text, as recipes/seedling reads it"
    )
    using.add_argument("--routers", type=Path, required=True, help="where a base's router lies, or is put")
    using.add_argument("--out", type=Path, required=True, help="one JSON line a finished run")
    using.add_argument("--only", choices=("told", "router"), help="with the right facts told, or routed")
    using.add_argument("--table", action="store_true", help="the table of what is finished, and nothing else")
    commands.add_parser("larger", help="what experts cost on a larger base, of random weights")
    bank = commands.add_parser("bank", help="examine the fact bank; goes on where it was")
    bank.add_argument("--corpus", type=Path, required=True, help="general text, as recipes/seedling reads it")
    bank.add_argument("--routers", type=Path, required=True, help="a folder for routers that are made")
    bank.add_argument("--out", type=Path, required=True, help="one JSON line a finished run")
    bank.add_argument("--n", type=int, action="append", default=[], help="facts")
    page = commands.add_parser("table", help="put finished runs into RESULTS.md")
    page.add_argument("--bank", type=Path, required=True)
    page.add_argument("--weights", type=Path, required=True)
    summary = commands.add_parser("summary", help="the table of the runs that are finished")
    summary.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    from benchmarks.memory import weights as runs

    if options.command == "all":
        from benchmarks.memory import bank as banks
        from benchmarks.memory import table
        from benchmarks.memory import using as tasks

        folder: Path = options.folder
        folder.mkdir(parents=True, exist_ok=True)
        bank_runs, weight_runs = folder / "bank.jsonl", folder / "weights.jsonl"
        banks.run(options.corpus, folder / "routers", bank_runs)
        runs.weights(options.corpus, weight_runs)
        tasks.using(options.corpus, folder / "routers", folder / "using.jsonl", routes=tasks.ROUTES)
        table.write(bank_runs, weight_runs)
        print(tasks.summary(folder / "using.jsonl"))
    elif options.command == "weights":
        runs.weights(options.corpus, options.out, sizes=options.n, only=options.only)
    elif options.command == "bank":
        from benchmarks.memory import bank as banks

        banks.run(options.corpus, options.routers, options.out, sizes=options.n)
    elif options.command == "table":
        from benchmarks.memory import table

        table.write(options.bank, options.weights)
    elif options.command == "using":
        from benchmarks.memory import using as tasks

        if not options.table:
            routes = (options.only,) if options.only else tasks.ROUTES
            tasks.using(options.corpus, options.routers, options.out, routes=routes)
        print(tasks.summary(options.out))
    elif options.command == "larger":
        from benchmarks.memory.larger import larger

        print(json.dumps(larger(), indent=2))
    else:
        print(runs.summary(options.out))


if __name__ == "__main__":
    main()
