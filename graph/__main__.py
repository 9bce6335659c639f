"""`python -m graph`, or `scripts/storegraph`: the service on the command line."""

from graph.server.cli import cli

if __name__ == "__main__":
    cli(prog_name="storegraph")
