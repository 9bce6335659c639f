"""A fault, planted: the service without its check of the event log after a failover, so that nobody is told of events that are lost."""

from typing import Any

from graph.server.cli import cli
from persistence.kit.events.feed import Feed


async def _no_check(_self: Feed, _session: Any) -> None:
    """The log is taken for the one that was read before."""


async def _not_unknown(_self: Feed, _position: int) -> bool:
    return False


for name, value in {
    "_check_history": _no_check,
    "_is_unknown": _not_unknown,
    "_histories": property(lambda _self: 0, lambda _self, _value: None),
}.items():
    setattr(Feed, name, value)

if __name__ == "__main__":
    cli(prog_name="storegraph")
