"""Generates a demo shop from a seed: the same items, users and sales every time.

Nothing here tells truth from invention for anybody but `seeding`: whoever reads a row sees an item like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import chain
from random import Random
from typing import NamedTuple

from persistence.kit.search import tokenizer

# The shop's present: its items and sales lie in the years before it. Sales are drawn by weekday and month, so the clock's
# time in its place would invent another shop each day.
EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
SOLD_OUT = 0.08
CANCELLED = 0.02  # Of the sales.
MOST_SALES = 20  # Of one item.
SATURDAY, DECEMBER = 5, 12
YEARS = 2  # How far back the oldest item was added.
DOMAIN = "demo.example"  # Of the e-mail addresses; nobody can have one there. Source: RFC 2606.


@dataclass(frozen=True)
class Shelf:
    """What one department sells: `price` is the median in euros, around which prices spread by their logarithm."""

    tag: str
    price: float
    things: Sequence[str]
    kinds: Sequence[str]
    sizes: Sequence[str]


SHELVES = (
    Shelf(
        "kitchen",
        24,
        (
            "Kettle",
            "Skillet",
            "Chef's Knife",
            "Mixing Bowl",
            "Coffee Grinder",
            "Teapot",
            "Cutting Board",
            "Saucepan",
            "Whisk",
            "Salad Spinner",
        ),
        ("Enamel", "Cast Iron", "Copper", "Oak", "Stoneware", "Brushed Steel"),
        ("0.5 l", "1 l", "1.7 l", "20 cm", "26 cm", "set of 3"),
    ),
    Shelf(
        "garden",
        19,
        (
            "Watering Can",
            "Trowel",
            "Pruning Shears",
            "Bird Feeder",
            "Planter",
            "Rain Gauge",
            "Garden Hose",
            "Seed Tray",
            "Lantern",
            "Trellis",
        ),
        ("Galvanised", "Terracotta", "Willow", "Beech", "Recycled", "Forged"),
        ("small", "medium", "large", "2 m", "15 m", "pack of 6"),
    ),
    Shelf(
        "books",
        17,
        (
            "Atlas",
            "Cookbook",
            "Field Guide",
            "Novel",
            "Poetry Collection",
            "Biography",
            "Dictionary",
            "Sketchbook",
            "History",
            "Travel Diary",
        ),
        ("Illustrated", "Pocket", "Annotated", "Collected", "Northern", "Forgotten"),
        ("hardcover", "paperback", "2nd edition", "large print", "slipcase", "two volumes"),
    ),
    Shelf(
        "clothing",
        46,
        ("Jumper", "Rain Jacket", "Scarf", "Work Shirt", "Socks", "Cardigan", "Trousers", "Beanie", "Gloves", "Nightshirt"),
        ("Merino", "Linen", "Organic Cotton", "Waxed", "Alpaca", "Striped"),
        ("XS", "S", "M", "L", "XL", "one size"),
    ),
    Shelf(
        "toys",
        21,
        ("Train Set", "Kite", "Puzzle", "Marble Run", "Spinning Top", "Doll's House", "Building Blocks", "Card Game", "Yo-yo", "Telescope"),
        ("Wooden", "Classic", "Junior", "Magnetic", "Painted", "Travel"),
        ("24 pieces", "100 pieces", "500 pieces", "from 3 years", "from 8 years", "family size"),
    ),
    Shelf(
        "office",
        12,
        (
            "Notebook",
            "Fountain Pen",
            "Desk Lamp",
            "Pencil Case",
            "Stapler",
            "Wall Calendar",
            "Letter Tray",
            "Ink Bottle",
            "Book Stand",
            "Globe",
        ),
        ("Dotted", "Brass", "Leather", "Cork", "Matte", "Archive"),
        ("A4", "A5", "A6", "30 ml", "black", "pack of 10"),
    ),
    Shelf(
        "music",
        58,
        ("Ukulele", "Harmonica", "Metronome", "Kalimba", "Guitar Strings", "Music Stand", "Tambourine", "Recorder", "Turntable", "Cajon"),
        ("Concert", "Walnut", "Student", "Vintage", "Folding", "Studio"),
        ("in C", "in G", "soprano", "tenor", "half size", "full size"),
    ),
    Shelf(
        "cycling",
        39,
        ("Bell", "Pannier", "Saddle", "Floor Pump", "Headlight", "Bottle Cage", "Tool Roll", "Helmet", "Chain", "Mudguards"),
        ("Touring", "City", "Gravel", "Reflective", "Titanium", "Waterproof"),
        ("26 inch", "28 inch", "20 l", "400 lm", "pair", "universal"),
    ),
)
MAKERS = (
    "Halden", "Brightwater", "Okafor & Daughters", "Lumière", "Tanaka", "Nørrebro", "Casa Vidal", "Fernwood", "Quill & Co", "Aalto",
    "Drumlin", "Sørensen", "Maple Row", "Kestrel", "Old Harbour", "Ibarra", "Wren", "Zielinski", "Copperfield", "Monsoon",
)  # fmt: skip
FIRST = ("Ada", "Amara", "Björn", "Chen", "Dalia", "Elif", "Farid", "Grace", "Hana", "Ivo", "Jonas", "Kofi", "Lucía", "Maja", "Noor", "Oskar", "Priya", "Rosa")  # fmt: skip
LAST = ("Almeida", "Bauer", "Castillo", "Diallo", "Eriksen", "Fischer", "García", "Haddad", "Ito", "Jansen", "Kowalska", "Lindqvist", "Mensah", "Novák")  # fmt: skip
PRAISE = (
    "Made to be repaired, not replaced.",
    "A favourite of the people who pack it.",
    "Comes in a box without plastic.",
    "Lighter than it looks.",
    "Gets better with every year of use.",
    "Each one differs a little from the next.",
)
COLOURS = ("slate", "ochre", "forest green", "cream", "midnight blue", "rust", "charcoal", "sage")


class DemoItem(NamedTuple):
    name: str
    description: str
    price: Decimal
    tags: list[str]
    inventory: int
    created_at: datetime
    search_words: str


def item(number: int, chance: Random) -> DemoItem:
    """The same for a number whatever else was made with `chance`, which spares making one for each."""
    chance.seed(number)
    shelf = SHELVES[number % len(SHELVES)]
    thing, kind, size = chance.choice(shelf.things), chance.choice(shelf.kinds), chance.choice(shelf.sizes)
    maker, colour, praise = chance.choice(MAKERS), chance.choice(COLOURS), chance.choice(PRAISE)
    name = (maker, kind, thing, size)
    return DemoItem(
        name=f"{maker} {kind} {thing}, {size}",
        description=f"{kind} {thing.lower()} in {colour} by {maker}, {size}. {praise}",
        price=_price(shelf.price * math.exp(chance.gauss(0, 0.6))),
        tags=[shelf.tag, *chance.sample((colour, kind.lower(), "gift", "new", "sale", "handmade"), chance.randint(1, 3))],
        inventory=0 if chance.random() < SOLD_OUT else round(chance.lognormvariate(3, 0.9)),
        created_at=EPOCH - timedelta(seconds=chance.uniform(0, YEARS * 365 * 86_400)),
        search_words=tokenizer.marked(_indexed_words(*name, "in", colour, "by", praise), _indexed_words(*name)),
    )


def _indexed_words(*parts: str) -> str:
    return " ".join(dict.fromkeys(chain.from_iterable(map(_words, parts))))


# Of each phrase once: of each item it would be half of the work.
_words = cache(tokenizer.words)


def _price(amount: float) -> Decimal:
    """As shops write it: 4.95, 12.90, 249.00."""
    if amount < 10:
        return Decimal(f"{max(1, int(amount))}.95")
    return Decimal(f"{int(amount)}.90") if amount < 100 else Decimal(f"{round(amount, -1) - 1:.0f}.00")


class DemoSale(NamedTuple):
    buyer: int
    quantity: int
    created_at: datetime
    cancelled: bool


def sales(number: int, item: DemoItem, chance: Random) -> list[DemoSale]:
    """What was sold of an item since it was added: of most nothing, of some often; more on weekends, in December, and from year to year."""
    chance.seed(-number - 1)
    span, waits = (EPOCH - item.created_at).total_seconds(), [chance.random() for _ in range(int(chance.paretovariate(1.2)))]
    moments = [item.created_at + timedelta(seconds=span * wait) for wait in waits[:MOST_SALES]]
    sold = [
        (chance.randrange(2**31), chance.choice((1, 1, 1, 2, 2, 3, 5)), moment) for moment in moments if chance.random() < _demand(moment)
    ]
    return [DemoSale(*sale, cancelled=chance.random() < CANCELLED) for sale in sold]


def _demand(moment: datetime) -> float:
    """How likely somebody buys then, from 0 to 1."""
    growth = 1 - 0.5 * (EPOCH - moment).days / (YEARS * 365)
    weekend = 1 if moment.weekday() >= SATURDAY else 0.7
    return growth * weekend * (1 if moment.month == DECEMBER else 0.6)


@dataclass(frozen=True)
class DemoUser:
    username: str
    full_name: str
    email: str


def user(number: int) -> DemoUser:
    first, last = FIRST[number % len(FIRST)], LAST[(number // len(FIRST) + number) % len(LAST)]
    username = f"{_words(first)[0]}.{_words(last)[0]}{number}"
    return DemoUser(username, f"{first} {last}", f"{username}@{DOMAIN}")
