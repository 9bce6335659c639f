"""How to ask for each field of the roots, and how to come to an object of each type, in the shop of `access.py`. A new one needs an entry here."""

from graphql import GraphQLObjectType, GraphQLSchema, is_required_argument

from graph.schema import executable
from tests.support.access import Way
from tests.support.service import PASSWORD

SALES = "salesReport(from: $opened, to: $closed)"
ROOTS: dict[str, dict[str, str]] = {
    "Query": {
        "item": "item(id: $item)",
        "itemByExternalId": 'itemByExternalId(externalId: "K-1")',
        "itemSummary": "itemSummary(id: $item)",
        "user": 'user(username: "hermit")',
        "rateLimit": "rateLimit",
        "node": "node(id: $item)",
        "nodes": "nodes(ids: [$item])",
        "compute": "compute(n: 1)",
        "purchases": "purchases",
        "salesReport": SALES,
    },
    "Mutation": {
        "createItem": 'createItem(input: {name: "Pan", price: 1})',
        "updateItem": 'updateItem(id: $item, input: {description: "Sings well."})',
        "deleteItem": "deleteItem(id: $fresh_item)",
        "restoreItem": "restoreItem(id: $fresh_gone)",
        "bulkCreateItems": 'bulkCreateItems(inputs: [{name: "Pan", price: 1}])',
        "upsertItems": 'upsertItems(inputs: [{externalId: "K-1", description: "Sings."}])',
        "adjustInventory": "adjustInventory(adjustments: [{itemId: $item, delta: 1}])",
        "purchaseItem": "purchaseItem(itemId: $item)",
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
        "itemEvents": "itemEvents(after: $created)",
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
    "Token": Way('mutation { token(username: "hermit", password: "correct horse battery") { ... on Token { * } } }'),
    "RevokedToken": Way('mutation { revokeToken(token: "nobody\'s") { ... on RevokedToken { * } } }'),
    "BulkCreateItems": Way(f"mutation {{ bulkCreateItems(inputs: [{PAN}]) {{ ... on BulkCreateItems {{ * }} }} }}"),
    "UpsertItems": Way('mutation { upsertItems(inputs: [{externalId: "K-1"}]) { ... on UpsertItems { * } } }'),
    "UpsertedItem": Way(
        'mutation { upsertItems(inputs: [{externalId: "K-1"}]) { ... on UpsertItems { results { ... on UpsertedItem { * } } } } }'
    ),
    "AdjustInventory": Way("mutation { adjustInventory(adjustments: [{itemId: $item, delta: 0}]) { ... on AdjustInventory { * } } }"),
    "InventoryAdjusted": Way(
        "mutation { adjustInventory(adjustments: [{itemId: $item, delta: 0}]) "
        "{ ... on AdjustInventory { results { ... on InventoryAdjusted { * } } } } }"
    ),
    "NotCreated": Way(
        f"mutation {{ bulkCreateItems(inputs: [{PAN}], dryRun: true) {{ ... on BulkCreateItems {{ results {{ ... on NotCreated {{ * }} }} }} }} }}"
    ),
    "DeletedItem": Way("mutation { deleteItem(id: $fresh_item) { ... on DeletedItem { * } } }"),
    "DeletedFile": Way("mutation { deleteFile(filename: $fresh_file) { ... on DeletedFile { * } } }"),
    "Login": Way("{ node(id: $owner_signed_in) { ... on User { logins { * } } } }"),
    "EndedLogin": Way("mutation { endLogin(id: $fresh_login) { ... on EndedLogin { * } } }"),
    "ChangedPassword": Way(
        f'mutation {{ changePassword(currentPassword: "{PASSWORD}", newPassword: "{PASSWORD}") {{ ... on ChangedPassword {{ * }} }} }}'
    ),
    "DeletedUser": Way("mutation { deleteMe(password: $fresh_password) { ... on DeletedUser { * } } }"),
    "LastAdministrator": Way("mutation { deleteMe(password: $own_password) { ... on LastAdministrator { * } } }"),
    "RetriedJob": Way("mutation { retryJob(id: $fresh_job) { ... on RetriedJob { * } } }"),
    "InvalidInput": Way('mutation { signup(input: {username: "", password: ""}) { ... on InvalidInput { * } } }'),
    "InputProblem": Way('mutation { signup(input: {username: "", password: ""}) { ... on InvalidInput { problems { * } } } }'),
    "UsernameTaken": Way('mutation { signup(input: {username: "Hermit", password: "correct horse"}) { ... on UsernameTaken { * } } }'),
    "InvalidCredentials": Way('mutation { refreshToken(refreshToken: "nobody\'s") { ... on InvalidCredentials { * } } }'),
    "IdempotencyKeyReused": Way(
        'mutation { first: purchaseItem(itemId: $item, idempotencyKey: "key") { ... on Purchase { id } } '
        'second: purchaseItem(itemId: $item, quantity: 2, idempotencyKey: "key") { ... on IdempotencyKeyReused { * } } }'
    ),
    "PurchaseItems": Way("mutation { purchaseItems(lines: [{itemId: $item}]) { ... on PurchaseItems { * } } }"),
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
    """Enter what the schema says by itself: fields of Query that need no argument, and the connections among them."""
    for name, field in schema.query_type.fields.items() if schema.query_type else ():
        if not any(is_required_argument(argument) for argument in field.args.values()):
            ROOTS["Query"].setdefault(name, name)
        connection = str(field.type).strip("!")
        if connection.endswith("Connection") and name in ROOTS["Query"]:
            WAYS.setdefault(connection, Way(f"{{ {ROOTS['Query'][name]} {{ * }} }}"))
            WAYS.setdefault(f"{connection.removesuffix('Connection')}Edge", Way(f"{{ {ROOTS['Query'][name]} {{ edges {{ * }} }} }}"))


find_ways(executable)


def missing(schema: GraphQLSchema) -> list[str]:
    """What the schema has and this page does not, a sentence each."""
    types = {name: type_ for name, type_ in schema.type_map.items() if isinstance(type_, GraphQLObjectType) and not name.startswith("__")}
    fields = [(root, field) for root in ROOTS for field in types[root].fields if field not in ROOTS[root]]
    return [
        *(
            f'Say how to ask for {root}.{field}: ROOTS["{root}"]["{field}"] = "{field}(…)" in tests/support/access_ways.py.'
            for root, field in fields
        ),
        *(
            f'Say how to come to a {name}: WAYS["{name}"] = Way("{{ … {{ * }} }}") in tests/support/access_ways.py.'
            for name in sorted(types.keys() - ROOTS.keys() - WAYS.keys())
        ),
    ]
