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
const USERS = { name: "users", text: `SELECT id, username, full_name FROM users WHERE id = ANY($1)` };

const schema = `
  type User { username: String! fullName: String }
  type Item {
    id: ID! name: String! description: String price: String! tags: [String!]! inventory: Int! inStock: Boolean! createdAt: String!
    owner: User
  }
  type Items { nodes: [Item!]! }
  type ItemCreated { cursor: String! item: Item! }
  type Query { item(id: ID!): Item  items(first: Int = 20, after: String): Items! }
  type Mutation { burst(count: Int!): Int! }
  type Subscription { itemEvents: ItemCreated! }
`;

const resolvers = {
  Query: {
    item: async (_, { id }) => (await pool.query({ ...ITEM, values: [id] })).rows[0],
    items: async (_, { first, after }) => ({ nodes: (await pool.query({ ...PAGE, values: [after ?? 0, first] })).rows }),
  },
  Item: {
    price: (row) => (row.price_cents / 100).toFixed(2),
    inStock: (row) => row.in_stock,
    createdAt: (row) => row.created_at.toISOString(),
  },
  Mutation: {
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
  Item: {
    async owner(queries) {
      const ids = queries.map(({ obj }) => obj.owner_id);
      const { rows } = await pool.query({ ...USERS, values: [ids] });
      const found = new Map(rows.map((row) => [row.id, { username: row.username, fullName: row.full_name }]));
      return ids.map((id) => found.get(id) ?? null);
    },
  },
};

app.register(mercurius, { schema, resolvers, loaders, jit: 1, subscription: true });
await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
