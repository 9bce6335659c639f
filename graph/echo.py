"""The `echo` subscription and `sendEcho` mutation: the smallest message between two clients, across processes."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Self

import orjson
import strawberry

from graph.budget import BudgetMeter
from graph.kit.context import Info
from graph.kit.errors import Refused, as_error
from graph.kit.fields import mutation, subscription
from persistence.kit.column_types import utc_now
from persistence.kit.errors import InvalidInput
from persistence.kit.lru_cache import LruCache
from persistence.kit.parsing.validation import Checks

CHANNEL_LENGTH = 100
MESSAGE_LENGTH = 1_000
RECEIVED_BYTES = 2**20  # Of the messages that are on their way to several listeners.
RECEIVED_MESSAGE_BYTES = 1_000  # What one takes beside its text, once packed and once not.

Channel = Annotated[strawberry.ID, strawberry.argument(description="Any name of 1 to 100 characters.")]


@strawberry.type(description="A message on a channel.")
class EchoMessage:
    channel: strawberry.ID = strawberry.field(description="Where it was sent to.")
    text: str = strawberry.field(description='"echo: " and the message.')
    sent_at: datetime = strawberry.field(description="When it was sent.")

    @classmethod
    def of(cls, channel: str, message: str) -> Self:
        return cls(channel=strawberry.ID(channel), text=f"echo: {message}", sent_at=utc_now())

    def to_bytes(self) -> bytes:
        # orjson leaves room behind what it wrote: 30 kB for a message of 4, which would wait in queues with it.
        return bytes(memoryview(orjson.dumps([self.text, self.sent_at])))

    @classmethod
    def from_bytes(cls, channel: str, packed: bytes) -> Self:
        text, sent_at = orjson.loads(packed)
        return cls(channel=strawberry.ID(channel), text=text, sent_at=datetime.fromisoformat(sent_at))


_received = LruCache[tuple[str, bytes], EchoMessage](RECEIVED_BYTES, lambda key, _: 6 * len(key[1]) + RECEIVED_MESSAGE_BYTES)


def received(channel: str, packed: bytes) -> EchoMessage:
    """One object for all listeners, so that it is executed and encoded once: see `graph.kit.execution.shared_execution`."""
    message = _received.get((channel, packed))
    if message is None:
        message = EchoMessage.from_bytes(channel, packed)
        _received.put((channel, packed), message)
    return message


@strawberry.type
class EchoMutation:
    @mutation(
        scope=None,
        description="Send a message to everybody who listens to a channel now. It is not kept. Each listener costs a point more.",
    )
    async def send_echo(
        self,
        info: Info,
        channel: Channel,
        message: Annotated[str, strawberry.argument(description="Up to 1,000 characters.")],
    ) -> EchoMessage:
        try:
            check(channel, message)
        except InvalidInput as error:
            raise as_error(error) from error  # There is no result union to put it into.
        sent, broker = EchoMessage.of(channel, message), info.context.services.broker
        if listeners := broker.listeners(topic(channel)):
            await _pay(info, listeners)
        await broker.publish(topic(channel), sent.to_bytes())
        return sent


@strawberry.type
class EchoSubscription:
    @subscription(
        scope=None,
        description="First the message that you give, if you give one, then each that `sendEcho` sends to the channel, from whomever.",
    )
    async def echo(
        self,
        info: Info,
        channel: Channel,
        message: Annotated[str | None, strawberry.argument(description="Up to 1,000 characters; only you hear it.")] = None,
    ) -> AsyncGenerator[EchoMessage]:
        check(channel, message)
        with info.context.services.broker.listening(topic(channel)) as messages:
            if message is not None:
                yield EchoMessage.of(channel, message)
            async for packed in messages:
                yield received(channel, packed)


async def _pay(info: Info, points: int) -> None:
    """Raises: GraphQLError RATE_LIMITED."""
    try:
        await info.context.port(BudgetMeter).pay(info.context.caller, points)
    except Refused as refused:
        raise refused.errors[0] from None


def topic(channel: str) -> str:
    return f"echo:{channel}"


def check(channel: str, message: str | None) -> None:
    """Raises: InvalidInput."""
    checks = Checks()
    checks.text("channel", channel, least=1, most=CHANNEL_LENGTH)
    checks.text("message", message, most=MESSAGE_LENGTH, lines=True)
    checks.finish()
