"""The command line of the service, killed in the middle of its writes again and again: `python -m tests.support.servers.killed_runs 2,7,9 import feed.csv`.

Each run but the last is a process that gets SIGKILL right before its second, seventh and ninth write or commit. A moment chosen from outside would
sometimes come after the end of a run; and all runs are forks of one process, as importing the service takes longer than they live.
"""

import os
import signal
import sys
from typing import Any

from sqlalchemy import Connection, Engine, event

from graph.server.cli import cli

WRITES = ("INSERT", "UPDATE", "DELETE", "WITH")


def main() -> None:
    points, arguments = [int(point) for point in sys.argv[1].split(",")], sys.argv[2:]
    for number, point in enumerate([*points, None]):
        code = _end_of(_begin(arguments, point))
        if code != -signal.SIGKILL:
            sys.stderr.write(f"killed {number} times\n")
            raise SystemExit(abs(code))


def _begin(arguments: list[str], point: int | None) -> int:
    """A process that runs the command."""
    if child := os.fork():
        signal.signal(signal.SIGTERM, lambda number, _: os.kill(child, number))
        return child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if point is not None:
        _die_at(point)
    cli(arguments, prog_name="storegraph")
    raise SystemExit


def _end_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die_at(point: int) -> None:
    left = point

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def executing(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(WRITES):
            connection.info["wrote"] = True
            count()

    def committing(connection: Connection) -> None:
        if connection.info.pop("wrote", False):
            count()

    event.listen(Engine, "before_cursor_execute", executing)
    event.listen(Engine, "commit", committing)


if __name__ == "__main__":
    main()
