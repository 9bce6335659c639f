"""The command line: registers every command."""

from __future__ import annotations

from typing import Annotated

import typer

from graph import VERSION
from graph.server.cli import accounts, backup, doctor, import_export, jobs, migrate, report, schema, seed, serve
from graph.server.cli.terminal import Commands

cli = typer.Typer(
    cls=Commands,
    help="Storegraph: a store catalogue as one GraphQL API. Settings come from the environment and .env. "
    "Commands never overwrite an existing file without --force.",
    epilog="Exit codes: 0 done; 1 refused, or a problem was found; 2 the command or a setting is wrong; 130 interrupted. "
    "`serve` ends with 1 when it cannot start, as when its port is in use, with 0 after Ctrl-C and by the signal itself (143) after SIGTERM. "
    'Completion: eval "$(scripts/storegraph --show-completion bash)".',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"storegraph {VERSION}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What is said before a command."""


for panel, commands in {
    "Run": (serve.serve, migrate.migrate, doctor.doctor),
    "Backups": (backup.backup, backup.restore),
    "Accounts": (accounts.grant, accounts.token, accounts.erase),
    "Catalogue": (import_export.import_items, import_export.export_items, report.report),
    "Demo data": (seed.seed,),
    "Schema": (schema.schema, schema.deprecations),
}.items():
    for command in commands:
        # The first word: `import` alone cannot be the name of a function.
        cli.command(command.__name__.partition("_")[0], rich_help_panel=panel)(command)

cli.add_typer(jobs.commands, name="jobs", rich_help_panel="Run")
