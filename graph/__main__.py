"""Command-line entry point: `python -m graph`, or `scripts/storegraph`."""

from graph.server.cli import cli

if __name__ == "__main__":
    cli(prog_name="storegraph")
