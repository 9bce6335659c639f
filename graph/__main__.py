"""Command-line entry point: `python -m graph`, or `scripts/storegraph`."""

import gc

if __name__ == "__main__":
    gc.disable()  # What imports make is kept: to look for garbage in it takes a tenth of the start.
    from graph.server.cli import cli

    gc.enable()
    cli(prog_name="storegraph")
