"""What `cnnbench cluster run` submits: a new fleet from options and the cluster, or the rest of an old one; and submitting it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from cnnbench.cli.measure import run
from cnnbench.cli.options import OptionValues
from cnnbench.cluster import collect, slurm, state, submit
from cnnbench.cluster.state import ClusterRun
from cnnbench.errors import UsageError
from cnnbench.plan.suite import find_suite, load_suite, suite_names
from cnnbench.store import format_now, new_run_id


def new_fleet(suites: tuple[str, ...], results: Path, options: OptionValues) -> tuple[Path, ClusterRun, list[str]]:
    """Make a new fleet, not yet submitted, and list the nodes to submit; those that are down with their refusal."""
    if not suites:
        raise UsageError("which suites? name at least one, as in `cnnbench cluster run quick --partition P`")
    if options["partition"] is None:
        raise UsageError("on which nodes? give --partition P (`sinfo -s` lists them)")
    if options["count"] is not None and options["each_node"]:
        raise UsageError("--nodes takes so many nodes, --each-node every one; give one of them")
    if options["fleet_id"] is not None:
        raise UsageError("--id names the cluster run to continue; it needs --resume")
    request = state.SlurmRequest(
        **{name: options[name] for name in ("partition", "constraint", "gres", "exclusive")},
        more=_parse_sbatch_options(options["more"]),
        minutes=submit.parse_minutes(options["time_limit"] or "2:00:00"),
    )
    whole = tuple(map(_locate_suite, suites))
    run_options = _parse_run_options(suites, options["run_options"])
    slurm.require()
    chosen = slurm.select_nodes(
        slurm.nodes(options["partition"]),
        constraint=options["constraint"],
        gres=options["gres"],
        count=options["count"],
        each=options["each_node"],
    )
    fleet_id = new_run_id()
    made = state.ClusterRun(
        fleet_id=fleet_id,
        created_at=format_now(),
        results=str(results.resolve()),
        suites=whole,
        run_options=run_options,
        request=request,
        cells=tuple(
            state.NodeEntry(
                node=each.name, kind=each.kind, attempts=(submit.make_refusal(each.why_not),) if each.why_not else ()
            )
            for each in chosen
        ),
    )
    return state.find_root(results) / fleet_id, made, [each.name for each in chosen if each.why_not is None]


def resume_fleet(
    context: click.Context, suites: tuple[str, ...], results: Path, options: OptionValues
) -> tuple[Path, ClusterRun, list[str]]:
    """Reopen the fleet to resume, record cut-off processes, and list the nodes that lack results and have no job."""
    asked = [name for name in ("constraint", "count", "each_node", "gres", "run_options") if options[name]]
    if asked:
        raise UsageError(f"--resume submits what the fleet lacks as it was asked for; leave out {', '.join(asked)}")
    slurm.require()
    folder = state.find(results, options["fleet_id"])
    was = collect.refresh(folder)
    if suites and tuple(map(_locate_suite, suites)) != was.suites:
        raise UsageError(f"fleet {was.fleet_id} runs {' '.join(was.suites)}, not {' '.join(suites)}; name it with --id")
    found = collect.read_node_statuses(folder, was)
    if not options["dry_run"]:
        found, _, problems = collect.collect(folder, was, results)
        for problem in problems:
            click.echo(f"warning: {problem}", err=True)
    explicit = context.get_parameter_source("exclusive") == click.core.ParameterSource.COMMANDLINE
    request = was.request.model_copy(
        update={
            "partition": options["partition"] or was.request.partition,
            "minutes": submit.parse_minutes(options["time_limit"]) if options["time_limit"] else was.request.minutes,
            "more": was.request.more | _parse_sbatch_options(options["more"]),
            "exclusive": options["exclusive"] if explicit else was.request.exclusive,
        }
    )
    now = {each.name: each.why_not for each in slurm.nodes(request.partition)}
    missing, changed, names = [view.node for view in found if view.state == "failed"], {}, []
    for cell in (each for each in was.cells if each.node in missing):
        why_not = now.get(cell.node, f"no node of {request.partition}")
        if why_not is None:
            names.append(cell.node)
        else:
            changed[cell.node] = (*cell.attempts, submit.make_refusal(why_not))
    if not missing:
        click.echo(f"fleet {was.fleet_id} lacks nothing that is not under way", err=True)
    return folder, was.model_copy(update={"request": request}).with_submissions(changed), names


def submit_jobs(folder: Path, made: ClusterRun, names: Sequence[str]) -> int:
    """Submit the nodes' jobs, each recorded before sbatch is called and again with its answer; return how many have no
    job id.

    Raises UsageError if another command has submitted one of them meanwhile.
    """
    refused = unsure = 0
    with state.locked(folder):
        if (folder / state.FILE).exists():
            there = {cell.node: len(cell.attempts) for cell in state.read(folder).cells}
            if any(there.get(cell.node) != len(cell.attempts) for cell in made.cells if cell.node in names):
                raise UsageError(
                    f"{folder}: another command submits this fleet's jobs; look with `cnnbench cluster status`"
                )
        state.write(folder, made)
        for cell in made.cells:
            if cell.node in names:
                attempt = state.Submission()
                made = made.with_submissions({cell.node: (*cell.attempts, attempt)})
                state.write(folder, made)
                attempt = submit.submit(folder, made, cell.node, attempt)
                made = made.with_submissions({cell.node: (*cell.attempts, attempt)})
                state.write(folder, made)
                refused += attempt.refused is not None
                unsure += attempt.refused is None and attempt.job_id is None
                lost = collect.describe_lost_submission(cell.node)
                known = lost if attempt.job_id is None else f"job {attempt.job_id}"
                click.echo(f"{cell.node}: {attempt.refused or known}")
            elif cell.last is not None and cell.last.refused is not None:
                refused += 1
                click.echo(f"{cell.node}: {cell.last.refused}")
    jobs = f"{len(names)} job{'' if len(names) == 1 else 's'}"
    more = f", {unsure} not known" if unsure else ""
    click.echo(f"fleet {made.fleet_id}: {jobs} to submit, {refused} of {len(made.cells)} nodes refused{more}", err=True)
    return refused + unsure


def _parse_sbatch_options(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, _, value = each.lstrip("-").partition("=")
        if not name:
            raise UsageError(f"--sbatch {each!r}: not NAME or NAME=VALUE, such as account=lab")
        found[name] = value
    return found


def _locate_suite(name: str) -> str:
    """Return the suite's name, or its file's absolute path: a node's job begins elsewhere. Raises SuiteError."""
    load_suite(find_suite(name))
    return name if name in suite_names() and not Path(name).exists() else str(find_suite(name).resolve())


def _parse_run_options(suites: Sequence[str], text: str | None) -> tuple[str, ...]:
    """Split the options into words. Raises UsageError for those that `cnnbench run` refuses or the fleet decides."""
    try:
        words = tuple(shlex.split(text or ""))
    except ValueError as error:
        raise UsageError(f"--run-options {text!r}: {error}; write it as a shell would read it") from error
    try:  # no --help: it would print run's and end this command with 0
        context = run.make_context("run", [*suites, *words], help_option_names=[])
    except click.UsageError as error:
        raise UsageError(f"--run-options {text!r}: {error.format_message()}") from error
    ours = ("as_json", "dry_run", "node_rank", "nodes", "rdzv", "rdzv_timeout", "results", "resume", "run_id")
    given = [name for name in ours if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE]
    if given or context.params["suites"] != tuple(suites):
        raise UsageError(f"--run-options {text!r}: {', '.join(given) or 'further suites'} are not for these options")
    return words
