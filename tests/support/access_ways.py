"""How to ask for each field of the roots, and how to come to an object of each type, in the shop of `access.py`, where `access_samples` does not know."""

from graphql import GraphQLObjectType, GraphQLSchema

from graph.schema import executable
from tests.support import access_samples
from tests.support.access import Way
from tests.support.service import PASSWORD

SALES = "salesReport(from: $opened, to: $closed)"
ROOTS: dict[str, dict[str, str]] = {
    "Query": {
        "item": "item(id: $item)",
        "itemByExternalId": 'itemByExternalId(externalId: "K-1")',
        "itemSummary": "itemSummary(id: $item)",
        "user": 'user(username: "hermit")',
        "node": "node(id: $item)",
        "nodes": "nodes(ids: [$item])",
        "salesReport": SALES,
    },
    "Mutation": {
        "updateItem": 'updateItem(id: $item, input: {description: "Sings well."})',
        "restoreItem": "restoreItem(id: $fresh_gone)",
        "bulkCreateItems": 'bulkCreateItems(inputs: [{name: "Pan", price: 1}])',
        "upsertItems": 'upsertItems(inputs: [{externalId: "K-1", description: "Sings."}])',
        "adjustInventory": "adjustInventory(adjustments: [{itemId: $item, delta: 1}])",
        "purchaseItems": "purchaseItems(lines: [{itemId: $item}])",
        "cancelPurchase": "cancelPurchase(id: $fresh_purchase)",
        "deleteFile": "deleteFile(filename: $fresh_file)",
        "signup": 'signup(input: {username: $new_name, password: "correct horse"})',
        "grantScopes": "grantScopes(username: $fresh_user, scopes: [ITEMS_READ])",
        "revokeScopes": "revokeScopes(username: $fresh_user, scopes: [ITEMS_READ])",
        "deactivateUser": "deactivateUser(username: $fresh_user)",
        "reactivateUser": "reactivateUser(username: $fresh_user)",
        "updateMe": "updateMe(input: {})",
        "changePassword": 'changePassword(currentPassword: "wrong password", newPassword: "correct horse")',
        "deleteMe": 'deleteMe(password: "wrong password")',
        "endLogin": "endLogin(id: $fresh_login)",
        "token": 'token(username: "hermit", password: "correct horse battery")',
        "refreshToken": 'refreshToken(refreshToken: "nobody\'s")',
        "revokeToken": 'revokeToken(token: "nobody\'s")',
        "retryJob": "retryJob(id: $fresh_job)",
        "sendEcho": 'sendEcho(channel: "a", message: "b")',
    },
    "Subscription": {
        "purchaseStatus": "purchaseStatus(id: $purchase)",
        "echo": 'echo(channel: "a", message: "b")',
    },
}
PAN = '{name: "Pan", price: 1}'
WAYS: dict[str, Way | tuple[Way, ...]] = {
    "Item": Way("{ item(id: $item) { * } }"),
    "Highlight": Way('{ items(search: "kettle") { edges { highlights { * } } } }'),
    "ItemFacets": Way("{ items { facets { * } } }"),
    "TagFacet": Way("{ items { facets { tags { * } } } }"),
    "PriceFacet": Way("{ items { facets { price { * } } } }"),
    "PriceBucket": Way("{ items { facets { price { buckets { * } } } } }"),
    "StockFacet": Way("{ items { facets { stock { * } } } }"),
    "PageInfo": Way("{ items { pageInfo { * } } }"),
    "ItemPage": Way("{ itemsPage { * } }"),
    "ItemSummary": Way("{ itemSummary(id: $item) { * } }"),
    "User": (
        Way("{ node(id: $owner) { ... on User { * } } }", "User, who has an item in the catalogue"),
        Way("{ node(id: $hermit) { ... on User { * } } }", "User, who has none", own="hermit"),
        Way("{ item(id: $item) { owner { * } } }", "User, as the owner of an item"),
    ),
    "Purchase": Way("{ node(id: $purchase) { ... on Purchase { * } } }"),
    "PurchaseConnection": Way("{ node(id: $owner) { ... on User { purchases { * } } } }"),
    "PurchaseEdge": Way("{ node(id: $owner) { ... on User { purchases { edges { * } } } } }"),
    "StoredFile": Way("{ node(id: $file) { ... on StoredFile { * } } }"),
    "Audit": Way("{ node(id: $entry) { ... on Audit { * } } }"),
    "ParkedJob": Way("{ parkedJobs { * } }"),
    "Health": Way("{ health { * } }"),
    "RateLimit": Way('{ rateLimit(document: "{ __typename }") { * } }'),
    "ItemCreated": Way("subscription { itemEvents(after: $created) { ... on ItemCreated { * } } }"),
    "ItemUpdated": Way("subscription { itemEvents(after: $updated) { ... on ItemUpdated { * } } }"),
    "ItemPurchased": Way("subscription { itemEvents(after: $purchased) { ... on ItemPurchased { * } } }"),
    "ItemAdjusted": Way("subscription { itemEvents(after: $adjusted) { ... on ItemAdjusted { * } } }"),
    "ItemRestocked": Way("subscription { itemEvents(after: $restocked) { ... on ItemRestocked { * } } }"),
    "ItemDeleted": Way("subscription { itemEvents(after: $deleted) { ... on ItemDeleted { * } } }"),
    "ItemRestored": Way("subscription { itemEvents(after: $restored) { ... on ItemRestored { * } } }"),
    "Gap": Way("subscription { itemEvents(after: $foreign) { ... on Gap { * } } }"),
    "SalesReport": Way(f"{{ {SALES} {{ * }} }}"),
    "SalesTotal": Way(f"{{ {SALES} {{ periods {{ * }} }} }}"),
    "EchoMessage": Way('subscription { echo(channel: "a", message: "b") { * } }'),
    "UpsertedItem": Way(
        'mutation { upsertItems(inputs: [{externalId: "K-1"}]) { ... on UpsertItems { results { ... on UpsertedItem { * } } } } }'
    ),
    "InventoryAdjusted": Way(
        "mutation { adjustInventory(adjustments: [{itemId: $item, delta: 0}]) "
        "{ ... on AdjustInventory { results { ... on InventoryAdjusted { * } } } } }"
    ),
    "NotCreated": Way(
        f"mutation {{ bulkCreateItems(inputs: [{PAN}], dryRun: true) {{ ... on BulkCreateItems {{ results {{ ... on NotCreated {{ * }} }} }} }} }}"
    ),
    "Login": Way("{ node(id: $owner_signed_in) { ... on User { logins { * } } } }"),
    "ChangedPassword": Way(
        f'mutation {{ changePassword(currentPassword: "{PASSWORD}", newPassword: "{PASSWORD}") {{ ... on ChangedPassword {{ * }} }} }}'
    ),
    "DeletedUser": Way("mutation { deleteMe(password: $fresh_password) { ... on DeletedUser { * } } }"),
    "LastAdministrator": Way("mutation { deleteMe(password: $own_password) { ... on LastAdministrator { * } } }"),
    "InvalidInput": Way('mutation { signup(input: {username: "", password: ""}) { ... on InvalidInput { * } } }'),
    "InputProblem": Way('mutation { signup(input: {username: "", password: ""}) { ... on InvalidInput { problems { * } } } }'),
    "UsernameTaken": Way('mutation { signup(input: {username: "Hermit", password: "correct horse"}) { ... on UsernameTaken { * } } }'),
    "InvalidCredentials": Way('mutation { refreshToken(refreshToken: "nobody\'s") { ... on InvalidCredentials { * } } }'),
    "IdempotencyKeyReused": Way(
        'mutation { first: purchaseItem(itemId: $item, idempotencyKey: "key") { ... on Purchase { id } } '
        'second: purchaseItem(itemId: $item, quantity: 2, idempotencyKey: "key") { ... on IdempotencyKeyReused { * } } }'
    ),
    "PurchaseCompleted": Way("mutation { cancelPurchase(id: $fresh_purchase) { ... on PurchaseCompleted { * } } }"),
    "OutOfStock": Way("mutation { purchaseItem(itemId: $item, quantity: 9999) { ... on OutOfStock { * } } }"),
    "NotFound": Way('mutation { purchaseItem(itemId: "nothing") { ... on NotFound { * } } }'),
    "InventoryConflict": Way(
        'mutation { updateItem(id: $item, input: {name: "Pot"}, expectedInventory: 5) { ... on InventoryConflict { * } } }'
    ),
    "VersionConflict": Way('mutation { updateItem(id: $item, input: {name: "Pot"}, expectedVersion: 1) { ... on VersionConflict { * } } }'),
}
ROUTES: dict[str, str] = {
    "/api/v2/files/download/{filename}": "/api/v2/files/download/plan.txt",
    "/docs/{path:path}": "/docs/README.md",
    "/shop/{name}": "/shop/shop.css",
    "/explorer/{name}": "/explorer/page.css",
    "/explorer/assets/{name}": "/explorer/assets/none.js",
}
FRESH: dict[str, str] = {}
"""For others to ask for as `$fresh_name`: a mutation of the owner's that makes an object and selects its id as `mark`."""


def find_ways(schema: GraphQLSchema) -> None:
    """Enter what the tests of entities say, and what the schema says by itself."""
    for name, text in access_samples.declared().items():
        root, _, field = name.partition(".")
        if field:
            ROOTS[root][field] = text
        else:
            WAYS[name] = Way(text)
    for root, name, text in access_samples.roots(schema):
        ROOTS[root].setdefault(name, text)
    for made in access_samples.creatable(schema):
        if made != "Item":  # The shop makes items of its own, with a stock.
            FRESH[made.lower()] = f"mutation {{ {ROOTS['Mutation'][f'create{made}']} {{ ... on {made} {{ mark: id }} }} }}"
    for name, way in access_samples.ways(schema, ROOTS):
        WAYS.setdefault(name, way)


find_ways(executable)


def missing(schema: GraphQLSchema) -> list[str]:
    """What the schema has and this page does not, a sentence each."""
    types = {name: type_ for name, type_ in schema.type_map.items() if isinstance(type_, GraphQLObjectType) and not name.startswith("__")}
    fields = [(root, field) for root in ROOTS for field in types[root].fields if field not in ROOTS[root]]
    return [
        *(
            f'Say how to ask for {root}.{field}: ACCESS = {{"{root}.{field}": "{field}(…)"}} in the tests of its entity.'
            for root, field in fields
        ),
        *(
            f'Say how to come to a {name}: ACCESS = {{"{name}": "{{ … {{ * }} }}"}} in the tests of its entity.'
            for name in sorted(types.keys() - ROOTS.keys() - WAYS.keys())
        ),
    ]
