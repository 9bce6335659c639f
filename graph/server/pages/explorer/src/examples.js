// The tour: documents that work on the data at hand, in this order.
import { ITEM, PURCHASE } from "./at-hand.js";

const example = (summary, query, variables) => ({
  summary,
  query: query.trim().replace(/^ {4}/gm, ""),
  variables: JSON.stringify(variables, null, 2),
});

const ADA = { username: "ada", password: "an engine of brass" };

export const examples = [
  example(
    "Make an account",
    `
    # 1. Make an account.
    # Run it with the button, or with Ctrl+Enter (⌘+Enter).
    mutation SignUp($input: SignupInput!) {
      signup(input: $input) {
        __typename
        ... on User {
          id
          username
          scopes
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    { input: { ...ADA, fullName: "Ada Lovelace", email: "ada@example.org" } },
  ),
  example(
    "Get a token",
    `
    # 2. Get a token.
    # The explorer puts it to use at once: you are signed in.
    # For an account of your own use “Sign in” above:
    # a password typed there is not kept.
    mutation GetToken($username: String!, $password: String!) {
      token(username: $username, password: $password) {
        __typename
        ... on Token {
          accessToken
          tokenType
          expiresIn
          refreshToken
          scopes
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    ADA,
  ),
  example(
    "Create an item",
    `
    # 3. Create an item.
    # A price is a string, so that no cent is lost.
    mutation CreateItem($input: CreateItemInput!) {
      createItem(input: $input) {
        __typename
        ... on Item {
          id
          name
          price
          inventory
          owner {
            username
          }
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    {
      input: {
        name: "Difference engine",
        description: "Computes tables by the method of differences.",
        price: "1490.00",
        tags: ["brass", "mechanical"],
        inventory: 12,
      },
    },
  ),
  example(
    "Search and page",
    `
    # 4. Search and page, with counts of all that was found.
    # For the next page, give endCursor as "after".
    query SearchItems($search: String, $first: Int!, $after: String) {
      items(search: $search, first: $first, after: $after) {
        totalCount
        edges {
          node {
            id
            name
            price
            inStock
            owner {
              username
            }
          }
        }
        pageInfo {
          hasNextPage
          endCursor
        }
        facets {
          tags(first: 5) {
            tag
            count
          }
          price {
            min
            max
          }
          stock {
            inStock
            outOfStock
          }
        }
      }
    }
    `,
    { search: "engine", first: 10, after: null },
  ),
  example(
    "Purchase",
    `
    # 5. Purchase an item.
    # The total is exact; stock never goes below zero.
    mutation Purchase($itemId: ID!, $quantity: Int!) {
      purchaseItem(itemId: $itemId, quantity: $quantity) {
        __typename
        ... on Purchase {
          id
          quantity
          unitPrice
          total
          status
        }
        ... on OutOfStock {
          available
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    { itemId: ITEM, quantity: 1 },
  ),
  example(
    "Subscribe to a channel",
    `
    # 6. Subscribe to a channel.
    # Events arrive on the right, and keep arriving
    # while you use other tabs: run SendEcho next.
    subscription Echo($channel: ID!, $message: String) {
      echo(channel: $channel, message: $message) {
        channel
        text
        sentAt
      }
    }
    `,
    { channel: "lobby", message: "hello" },
  ),
  example(
    "Send to the channel",
    `
    # 7. Send to the channel.
    # Every subscriber of it receives this.
    mutation SendEcho($channel: ID!, $message: String!) {
      sendEcho(channel: $channel, message: $message) {
        text
        sentAt
      }
    }
    `,
    { channel: "lobby", message: "is anyone there?" },
  ),
  example(
    "Watch the catalogue",
    `
    # 8. Watch the catalogue.
    # Run this, then CreateItem or Purchase once more.
    # A cursor as "after" first tells all that it missed.
    subscription ItemEvents($after: String) {
      itemEvents(after: $after) {
        __typename
        ... on ItemChange {
          item {
            name
            price
            inventory
          }
        }
        ... on ItemPurchased {
          quantity
        }
        ... on ItemRestocked {
          quantity
        }
        ... on Event {
          cursor
          occurredAt
        }
      }
    }
    `,
    { after: null },
  ),
  example(
    "Follow a purchase",
    `
    # 9. Follow a purchase.
    # The stream ends when its background work is done.
    subscription PurchaseStatus($id: ID!) {
      purchaseStatus(id: $id) {
        id
        status
        total
      }
    }
    `,
    { id: PURCHASE },
  ),
  example(
    "See where you are signed in",
    `
    # 10. See where you are signed in.
    # EndLogin with one of these ids signs out there.
    query Logins {
      me {
        logins {
          id
          client
          lastUsedAt
          isCurrent
        }
      }
    }
    `,
    {},
  ),
  example(
    "Delete an item and restore it",
    `
    # 11. Delete an item, and restore it.
    # ItemEvents tells both; purchases of it stay meanwhile.
    mutation DeleteAndRestore($id: ID!) {
      deleteItem(id: $id) {
        __typename
      }
      restoreItem(id: $id) {
        __typename
        ... on Item {
          id
          name
          version
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    { id: ITEM },
  ),
  example(
    "Keep a catalogue in step",
    `
    # 12. Keep a catalogue in step with another system.
    # Run it twice: the second time nothing changes.
    mutation UpsertItems($inputs: [UpsertItemInput!]!) {
      upsertItems(inputs: $inputs) {
        __typename
        ... on UpsertItems {
          created
          updated
          unchanged
          results {
            __typename
            ... on UpsertedItem {
              outcome
              fields
              item {
                externalId
                name
                price
                version
              }
            }
            ... on Error {
              message
            }
          }
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    {
      inputs: [
        { externalId: "ERP-1", name: "Slide rule", price: "39.00", inventory: 5 },
        { externalId: "ERP-2", name: "Abacus", price: "12.50", tags: ["wood"] },
      ],
    },
  ),
  example(
    "Correct the stock",
    `
    # 13. Correct the stock by a difference.
    # Buyers go on meanwhile; it is never below zero.
    mutation AdjustInventory($adjustments: [InventoryAdjustmentInput!]!) {
      adjustInventory(adjustments: $adjustments) {
        __typename
        ... on AdjustInventory {
          results {
            __typename
            ... on InventoryAdjusted {
              delta
              item {
                name
                inventory
                version
              }
            }
            ... on OutOfStock {
              available
            }
            ... on Error {
              message
            }
          }
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    { adjustments: [{ itemId: ITEM, delta: -1, reason: "broken" }] },
  ),
  example(
    "Buy a basket",
    `
    # 14. Buy several items at once.
    # All lines or none: OutOfStock says which item is short.
    mutation PurchaseItems($lines: [PurchaseLineInput!]!) {
      purchaseItems(lines: $lines) {
        __typename
        ... on PurchaseItems {
          total
          purchases {
            id
            quantity
            total
            status
          }
        }
        ... on OutOfStock {
          itemId
          available
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    {
      lines: [
        { itemId: ITEM, quantity: 2 },
        { itemId: ITEM, quantity: 1 },
      ],
    },
  ),
  example(
    "List purchases",
    `
    # 15. List what you bought and sold, the newest first.
    # With the scope users:read it is what anybody did.
    query Purchases($filter: PurchaseFilter, $first: Int!) {
      purchases(filter: $filter, orderBy: { field: CREATED_AT, direction: DESC }, first: $first) {
        totalCount
        nodes {
          id
          status
          quantity
          total
          createdAt
          item {
            name
          }
          buyer {
            username
          }
        }
      }
    }
    `,
    { filter: { status: "COMPLETED" }, first: 10 },
  ),
  example(
    "Cancel a purchase",
    `
    # 16. Cancel a purchase.
    # You can while it is QUEUED, and with users:write always.
    # Watch ItemEvents: its units are in stock again.
    mutation CancelPurchase($id: ID!) {
      cancelPurchase(id: $id) {
        __typename
        ... on Purchase {
          id
          status
          item {
            inventory
          }
        }
        ... on Error {
          code
          message
        }
      }
    }
    `,
    { id: PURCHASE },
  ),
];
