// Mercurius with its JIT, as its documentation shows it: Fastify, the `pg` pool, loaders.
import Fastify from "fastify";
import mercurius from "mercurius";
import pg from "pg";

pg.types.setTypeParser(20, Number); // int8: ids and cents are far below 2^53

const pool = new pg.Pool({ connectionString: process.env.PLAIN_DATABASE_URL, max: 10 });
const app = Fastify();

const COLUMNS = `id, name, description, price_cents, tags, inventory, in_stock, created_at, owner_id`;
const ITEM = { name: "item", text: `SELECT ${COLUMNS} FROM items WHERE id = $1 AND deleted_at IS NULL` };
const PAGE = { name: "page", text: `SELECT ${COLUMNS} FROM items WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2` };
const COUNT = { name: "count", text: `SELECT count(*) FROM (SELECT 1 FROM items WHERE deleted_at IS NULL LIMIT 10000) counted` };
const CHANGE = {
  name: "change",
  text: `UPDATE items SET description = $2, version = version + 1, updated_at = now() WHERE id = $1 AND deleted_at IS NULL RETURNING ${COLUMNS}`,
};
const OWNED = {
  name: "owned",
  text: `SELECT i.* FROM unnest($1::bigint[]) owners (id) CROSS JOIN LATERAL
    (SELECT ${COLUMNS} FROM items WHERE owner_id = owners.id AND deleted_at IS NULL ORDER BY items.id LIMIT $2) i ORDER BY i.owner_id, i.id`,
};
const USERS = { name: "users", text: `SELECT id, username, full_name FROM users WHERE id = ANY($1)` };

const schema = `
  interface Node { id: ID! }
  type User { username: String! fullName: String items(first: Int = 20): Items! }
  type Item implements Node {
    id: ID! name: String! description: String price: String! tags: [String!]! inventory: Int! inStock: Boolean! createdAt: String!
    owner: User
  }
  type Items { totalCount: Int! nodes: [Item!]! }
  type ItemCreated { cursor: String! item: Item! }
  type Query { node(id: ID!): Node  item(id: ID!): Item  items(first: Int = 20, after: String): Items! }
  type Mutation { burst(count: Int!): Int!  updateItem(id: ID!, description: String!): Item }
  type Subscription { itemEvents: ItemCreated! }
`;

const item = async (_, { id }) => (await pool.query({ ...ITEM, values: [id] })).rows[0];

const resolvers = {
  Query: {
    item,
    node: item,
    items: async (_, { first, after }) => ({ nodes: (await pool.query({ ...PAGE, values: [after ?? 0, first] })).rows }),
  },
  Item: {
    price: (row) => (row.price_cents / 100).toFixed(2),
    inStock: (row) => row.in_stock,
    createdAt: (row) => row.created_at.toISOString(),
  },
  Node: { resolveType: () => "Item" },
  Items: { totalCount: async () => (await pool.query(COUNT)).rows[0].count },
  Mutation: {
    updateItem: async (_, { id, description }) => (await pool.query({ ...CHANGE, values: [id, description] })).rows[0],
    burst: async (_, { count }, { pubsub }) => {
      const item = (await pool.query({ ...PAGE, values: [0, 1] })).rows[0];
      for (let number = 0; number < count; number++) {
        await pubsub.publish({ topic: "items", payload: { itemEvents: { cursor: String(number), item } } });
      }
      return count;
    },
  },
  Subscription: { itemEvents: { subscribe: (_, __, { pubsub }) => pubsub.subscribe("items") } },
};

const loaders = {
  User: {
    async items(queries) {
      const ids = queries.map(({ obj }) => obj.id);
      const { rows } = await pool.query({ ...OWNED, values: [[...new Set(ids)], queries[0].params.first] });
      const found = new Map(ids.map((id) => [id, []]));
      for (const row of rows) found.get(row.owner_id).push(row);
      return ids.map((id) => ({ nodes: found.get(id) }));
    },
  },
  Item: {
    async owner(queries) {
      const ids = queries.map(({ obj }) => obj.owner_id);
      const { rows } = await pool.query({ ...USERS, values: [ids] });
      const found = new Map(rows.map((row) => [row.id, { id: row.id, username: row.username, fullName: row.full_name }]));
      return ids.map((id) => found.get(id) ?? null);
    },
  },
};

app.register(mercurius, { schema, resolvers, loaders, jit: 1, subscription: true });
await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
