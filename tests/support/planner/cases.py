"""Documents by what they ask, each with its variables: those that are planned, in part or whole, and those that are not."""

from __future__ import annotations

from typing import Any

# In the variables, {id} and {deleted} stand for global ids, {after} for a cursor of the default order.
Case = tuple[str, dict[str, Any]]

SIMPLE: dict[str, Case] = {
    "one item by its external id": ("query ($id: String!) { itemByExternalId(externalId: $id) { name externalId } }", {"id": "A-1"}),
    "no item by its external id": ('{ itemByExternalId(externalId: "a-1") { name } }', {}),
    "by an external id that nothing can have": ('{ itemByExternalId(externalId: "a\\u0000") { name } }', {}),
    "one item": (
        "query ($id: ID!) { item(id: $id) { id name description price tags inventory inStock version createdAt updatedAt } }",
        {"id": "{id}"},
    ),
    "no such item": ('{ item(id: "SXRlbTo5OTk5OTk=") { id } }', {}),
    "a deleted item": ("query ($id: ID!) { item(id: $id) { id } }", {"id": "{deleted}"}),
    "garbage for an id": ('{ item(id: "garbage") { id } }', {}),
    "an alias": ("query ($id: ID!) { a: item(id: $id) { n: name m: name name } b: item(id: $id) { price } }", {"id": "{id}"}),
    "type names": (
        "{ items(first: 2) { __typename edges { __typename } nodes { __typename owner { __typename } } pageInfo { __typename } } }",
        {},
    ),
    "an owner": ("{ items { nodes { name owner { id username fullName createdAt } } } }", {}),
    "nothing but owners": ("{ items { nodes { owner { username } } } }", {}),
    "a fragment": ("{ items(first: 3) { nodes { ...F ... on Item { price } ... { tags } } } } fragment F on Item { name }", {}),
    "merged fields": (
        "{ items(first: 1) { nodes { name } nodes { price owner { username } owner { id } } } items(first: 1) { pageInfo { hasNextPage } } }",
        {},
    ),
    "edges": ("{ items(first: 2) { edges { cursor node { name } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }", {}),
    "an empty page": ("{ items(first: 0) { nodes { id } edges { cursor } pageInfo { hasNextPage startCursor endCursor } } }", {}),
    "the next page": (
        "query ($after: String) { items(first: 2, after: $after) { nodes { name } pageInfo { hasNextPage hasPreviousPage } } }",
        {"after": "{after}"},
    ),
    "the page before": (
        "query ($c: String) { items(last: 1, before: $c) { nodes { name } pageInfo { hasNextPage hasPreviousPage } } }",
        {"c": "{after}"},
    ),
    "the last page": ("{ items(last: 2) { nodes { name } pageInfo { hasNextPage hasPreviousPage startCursor } } }", {}),
    "variables with defaults": ("query ($n: Int = 2) { items(first: $n) { nodes { name } } }", {}),
    "null for an argument": ("query ($s: String) { items(search: $s, first: 1) { nodes { name } } }", {"s": None}),
    "a filter": ('{ items(filter: {priceMin: "1", priceMax: 5, inStock: true, tagsAny: ["rock"]}) { nodes { name price } } }', {}),
    "a filter in a variable": ("query ($f: ItemFilter) { items(filter: $f) { nodes { name } } }", {"f": {"tagsAll": ["rock", "loud"]}}),
    "another filter of the same form": ("query ($f: ItemFilter) { items(filter: $f) { nodes { name } } }", {"f": {"tagsAll": ["rock"]}}),
    "a filter's next page": (
        "{ items(filter: {inStock: true}, first: 1, orderBy: {field: PRICE}) { edges { cursor node { id } } pageInfo { endCursor } } }",
        {},
    ),
    "a search without a word": ('{ items(search: " , ") { nodes { name } } }', {}),
    "nothing but a page's ends": ("{ items(first: 2) { pageInfo { hasNextPage hasPreviousPage } } }", {}),
    "two forms of one list": (
        "{ items(first: 2) { nodes { name } others: nodes { price } edges { node { id } a: cursor } again: edges { node { tags } } } }",
        {},
    ),
    **{
        f"nothing selected: {selected}": (f"{{ items(first: 2) {selected} }}", {})
        for selected in (
            "{}",
            "{ nodes {} }",
            "{ edges {} }",
            "{ edges { node {} } }",
            "{ edges { ... {} cursor } }",
            "{ pageInfo {} }",
            "{ nodes { owner {} } }",
            "{ nodes { owner {} name } edges {} ... {} }",
        )
    },
    "nothing selected of an item": ("query ($id: ID!) { item(id: $id) {} }", {"id": "{id}"}),
    "nothing selected of no item": ("query ($id: ID!) { item(id: $id) { ... {} } }", {"id": "{deleted}"}),
    "a search": ('{ items(search: "mot") { nodes { name } } }', {}),
    **{
        f"by {field} {direction}": (
            f"{{ items(first: 3, orderBy: {{field: {field}, direction: {direction}}}) {{ edges {{ cursor node {{ id }} }} pageInfo {{ endCursor }} }} }}",
            {},
        )
        for field in ("NAME", "PRICE", "CREATED_AT", "INVENTORY")
        for direction in ("ASC", "DESC")
    },
}

THREE_LISTS = """
{ items { totalCount nodes { owner { items(first: 2) { totalCount edges { cursor node { name owner { items(last: 1) { ...P } } } } } } } } }
fragment P on ItemConnection { totalCount nodes { id } pageInfo { startCursor hasPreviousPage } }
"""
FORMERLY_SLOW: dict[str, Case] = {
    "the root's type name": ("{ __typename items { nodes { id } } t: __typename }", {}),
    "a count": ("{ items { totalCount } }", {}),
    "a count of a search": ('{ items(search: "mot", first: 1) { totalCount nodes { name } n: totalCount } }', {}),
    "a directive": ("query ($no: Boolean = false) { items(first: 1) { nodes { name @include(if: $no) price } } }", {}),
    "a directive that holds": (
        "query ($yes: Boolean!) { items(first: 1) { nodes { name @include(if: $yes) price @skip(if: $yes) } } }",
        {"yes": True},
    ),
    "a directive at the root": (
        "query ($no: Boolean!) { items { totalCount } ... @include(if: $no) { a: items { nodes { id } } } }",
        {"no": False},
    ),
    "directives in words": ("{ items(first: 2) { nodes { name @skip(if: true) ...F @include(if: true) } } } fragment F on Item { id }", {}),
    "a fragment on an interface": ("{ items(first: 1) { nodes { ... on Node { id __typename ... on Item { name } } } } }", {}),
    **{
        f"nothing of {name}": (f"query ($no: Boolean = false) {{ items(first: 3) {{ {selection} }} }}", {})
        for name, selection in {
            "a connection": "totalCount @include(if: $no)",
            "edges": "edges { cursor @include(if: $no) }",
            "edges' nodes": "edges { node { id @include(if: $no) } }",
            "nodes": "nodes { id @include(if: $no) }",
            "page info": "pageInfo { endCursor @include(if: $no) }",
            "owners": "nodes { owner { id @include(if: $no) } }",
            "owners' lists": "nodes { owner { items { nodes @include(if: $no) { id } } } }",
            "owners' edges": "nodes { owner { items(first: 2) { edges { node @include(if: $no) { id } } } } }",
        }.items()
    },
    "a node": (
        "query ($id: ID!) { node(id: $id) { __typename id ... on Item { name owner { username } } ... on User { username } } }",
        {"id": "{id}"},
    ),
    "a node of a deleted item": ("query ($id: ID!) { node(id: $id) { id } }", {"id": "{deleted}"}),
    "a node that is a user": ("query ($id: ID!) { node(id: $id) { ... on User { username email } } }", {"id": "{user}"}),
    "a node of another type": ("query ($id: ID!) { node(id: $id) { ... on Item { name } } }", {"id": "{user}"}),
    "a node of nothing": ('{ node(id: "x") { id } b: node(id: 1) { id } }', {}),
    "an item by a user's id": ("query ($id: ID!) { item(id: $id) { name } }", {"id": "{user}"}),
    "nodes": (
        'query ($a: ID!, $b: ID!, $c: ID!) { nodes(ids: [$a, $b, $c, $a, "x"]) { __typename id ... on Item { name } ... on User { fullName } } }',
        {"a": "{id}", "b": "{user}", "c": "{deleted}"},
    ),
    "no nodes": ("{ nodes(ids: []) { id } }", {}),
    "a nested list": (
        "{ items { nodes { name owner { username items(first: 1) { nodes { name } pageInfo { hasNextPage endCursor } } } } } }",
        {},
    ),
    "three lists": (
        THREE_LISTS,
        {},
    ),
    "one field under two names": (
        "{ items(first: 2) { nodes { owner { a: items(first: 1) { nodes { name } } b: items(last: 1) { nodes { name } } } } } }",
        {},
    ),
    "nothing but a nested total": ("{ items { nodes { owner { items { totalCount __typename } } } } }", {}),
    "an empty nested page": (
        "{ items { nodes { owner { items(first: 0) { edges { node { id } } pageInfo { endCursor hasNextPage } } } } } }",
        {},
    ),
    "hidden fields": ("{ items { nodes { owner { username email isActive scopes purchases { totalCount nodes { id } } } } } }", {}),
    "facets, highlights and words of a nested list": (
        """
        { items(first: 2) { nodes { owner { items(first: 1) { matching didYouMean edges { cursor highlights { field } } facets {
          precision tags(first: 2) { tag count selected } price { min max buckets { to count } } stock { inStock } } } } } } }
        """,
        {},
    ),
    "a variable in a nested list": (
        "query ($n: Int = 1, $m: Int) { items(first: $m) { nodes { owner { items(first: $n) { nodes { id } } } } } }",
        {"m": 3},
    ),
    "a resolver without arguments": (
        "{ rateLimit { __typename enabled limit cost resolved: maxCost } item: health { status failing } }",
        {},
    ),
    "a resolver beside a list": ("{ items(first: 1) { nodes { id } } rateLimit { restoreRate } }", {}),
}

FAST = SIMPLE | FORMERLY_SLOW

BESIDE: dict[str, Case] = {
    "introspection": ("{ __schema { queryType { name } } items(first: 1) { nodes { id } } }", {}),
    "a field with scopes": ("{ itemsPage { total } items(first: 1) { nodes { id } } }", {}),
    "a resolver between": ("{ a: items(first: 1) { nodes { id } } compute(n: 20) b: items { totalCount } }", {}),
    "a summary": ("query ($id: ID!) { item(id: $id) { name } itemSummary(id: $id) { price item { name } } }", {"id": "{id}"}),
    "an error beside": ("{ items(first: 1) { nodes { id } } compute(n: -1) }", {}),
    "an error of a root that may be null": ('{ items(first: 1) { nodes { id } } user(username: "ada") { id } }', {}),
    "a list that is refused": ("{ items(first: 1) { nodes { id } } b: items(first: 101) { nodes { id } } }", {}),
    "a nested list that is refused": (
        "{ items(first: 2) { totalCount } b: items { nodes { owner { items(first: 101) { nodes { id } } } } } }",
        {},
    ),
    "a nested list that is refused nowhere": (
        "{ items(first: 1) { nodes { owner { items(first: 101) { nodes { id } } } } } b: items { totalCount } }",
        {},
    ),
}

SLOW: dict[str, Case] = {
    "nothing but resolvers": ("{ compute(n: 3) __typename }", {}),
    "nothing": ("{ __typename }", {}),
    "a resolver with arguments": ('{ rateLimit(document: "{ me { id } }") { cost } }', {}),
    "introspection": ("{ __schema { queryType { name } } }", {}),
}

REFUSED: dict[str, Case] = {
    "too many": ("{ items(first: 101) { nodes { id } } }", {}),
    "both ends": ("{ items(first: 1, last: 1) { nodes { id } } }", {}),
    "a foreign cursor": ('{ items(after: "WyJ4IiwxLDFd") { nodes { id } } }', {}),
    "a cursor of another order": ("query ($c: String) { items(after: $c, orderBy: {field: NAME}) { nodes { id } } }", {"c": "{after}"}),
    "a bad price": ('{ items(filter: {priceMin: "-1"}) { nodes { id } } }', {}),
}
