// A compiled server as one would write it: graph-gophers/graphql-go with pgx, and a batch by hand for each level below a page.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/graph-gophers/graphql-go"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const schema = `
  interface Node { id: ID! }
  type User { username: String! fullName: String items(first: Int = 20): Items! }
  type Item implements Node {
    id: ID! name: String! description: String price: String! tags: [String!]! inventory: Int! inStock: Boolean! createdAt: String!
    owner: User
  }
  type Items { totalCount: Int! nodes: [Item!]! }
  type Query { node(id: ID!): Node  item(id: ID!): Item  items(first: Int = 20, after: String): Items! }
  type Mutation { updateItem(id: ID!, description: String!): Item }
  schema { query: Query mutation: Mutation }
`

const columns = "id, name, description, price_cents, tags, inventory, in_stock, created_at, owner_id"

var pool *pgxpool.Pool

type user struct {
	id       int64
	username string
	fullName *string
	level    *level
}

type item struct {
	id          int64
	name        string
	description *string
	cents       int64
	tags        []string
	inventory   int32
	inStock     bool
	createdAt   time.Time
	ownerID     *int64
	level       *level
}

// level holds the items that were read together; their owners are read once for all, and so are the items of these.
type level struct {
	items  []*item
	owners sync.Once
	byID   map[int64]*user
	err    error
	owned  sync.Once
	below  map[int64][]*item
}

func read(ctx context.Context, where string, arguments ...interface{}) (*level, error) {
	rows, err := pool.Query(ctx, "SELECT "+columns+" FROM items WHERE deleted_at IS NULL AND "+where, arguments...)
	if err != nil {
		return nil, err
	}
	return scanned(rows)
}

func scanned(rows pgx.Rows) (*level, error) {
	defer rows.Close()
	found := &level{}
	for rows.Next() {
		i := &item{level: found}
		if err := rows.Scan(&i.id, &i.name, &i.description, &i.cents, &i.tags, &i.inventory, &i.inStock, &i.createdAt, &i.ownerID); err != nil {
			return nil, err
		}
		found.items = append(found.items, i)
	}
	return found, rows.Err()
}

func (l *level) readOwners(ctx context.Context) {
	ids := []int64{}
	for _, i := range l.items {
		if i.ownerID != nil {
			ids = append(ids, *i.ownerID)
		}
	}
	rows, err := pool.Query(ctx, "SELECT id, username, full_name FROM users WHERE id = ANY($1)", ids)
	if err != nil {
		l.err = err
		return
	}
	defer rows.Close()
	l.byID = map[int64]*user{}
	for rows.Next() {
		u := &user{level: l}
		if l.err = rows.Scan(&u.id, &u.username, &u.fullName); l.err != nil {
			return
		}
		l.byID[u.id] = u
	}
}

func (l *level) readOwned(ctx context.Context, first int32) {
	ids := []int64{}
	for id := range l.byID {
		ids = append(ids, id)
	}
	rows, err := pool.Query(ctx, "SELECT i.* FROM unnest($1::bigint[]) owners (id) CROSS JOIN LATERAL (SELECT "+columns+
		" FROM items WHERE owner_id = owners.id AND deleted_at IS NULL ORDER BY items.id LIMIT $2) i ORDER BY i.owner_id, i.id", ids, first)
	if err != nil {
		l.err = err
		return
	}
	found, err := scanned(rows)
	if err != nil {
		l.err = err
		return
	}
	l.below = map[int64][]*item{}
	for _, i := range found.items {
		l.below[*i.ownerID] = append(l.below[*i.ownerID], i)
	}
}

func (u *user) Items(ctx context.Context, arguments struct{ First int32 }) (*items, error) {
	u.level.owned.Do(func() { u.level.readOwned(ctx, arguments.First) })
	return &items{u.level.below[u.id]}, u.level.err
}

func (u *user) Username() string  { return u.username }
func (u *user) FullName() *string { return u.fullName }

func (i *item) ID() graphql.ID       { return graphql.ID(strconv.FormatInt(i.id, 10)) }
func (i *item) Name() string         { return i.name }
func (i *item) Description() *string { return i.description }
func (i *item) Price() string        { return strconv.FormatFloat(float64(i.cents)/100, 'f', 2, 64) }
func (i *item) Tags() []string       { return i.tags }
func (i *item) Inventory() int32     { return i.inventory }
func (i *item) InStock() bool        { return i.inStock }
func (i *item) CreatedAt() string    { return i.createdAt.Format(time.RFC3339Nano) }
func (i *item) Owner(ctx context.Context) (*user, error) {
	i.level.owners.Do(func() { i.level.readOwners(ctx) })
	if i.ownerID == nil {
		return nil, i.level.err
	}
	return i.level.byID[*i.ownerID], i.level.err
}

type items struct{ nodes []*item }

func (p *items) Nodes() []*item { return p.nodes }
func (p *items) TotalCount(ctx context.Context) (count int32, err error) {
	err = pool.QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM items WHERE deleted_at IS NULL LIMIT 10000) counted").Scan(&count)
	return
}

type node struct{ *item }

func (n *node) ToItem() (*item, bool) { return n.item, true }

type root struct{}

func (root) Item(ctx context.Context, arguments struct{ ID graphql.ID }) (*item, error) {
	id, _ := strconv.ParseInt(string(arguments.ID), 10, 64)
	found, err := read(ctx, "id = $1", id)
	if err != nil || len(found.items) == 0 {
		return nil, err
	}
	return found.items[0], nil
}

func (r root) Node(ctx context.Context, arguments struct{ ID graphql.ID }) (*node, error) {
	found, err := r.Item(ctx, arguments)
	if err != nil || found == nil {
		return nil, err
	}
	return &node{found}, nil
}

func (root) Items(ctx context.Context, arguments struct {
	First int32
	After *string
}) (*items, error) {
	after := int64(0)
	if arguments.After != nil {
		after, _ = strconv.ParseInt(*arguments.After, 10, 64)
	}
	found, err := read(ctx, "id > $1 ORDER BY id LIMIT $2", after, arguments.First)
	if err != nil {
		return nil, err
	}
	return &items{found.items}, nil
}

func (r root) UpdateItem(ctx context.Context, arguments struct {
	ID          graphql.ID
	Description string
}) (*item, error) {
	id, _ := strconv.ParseInt(string(arguments.ID), 10, 64)
	rows, err := pool.Query(ctx, "UPDATE items SET description = $2, version = version + 1, updated_at = now()"+
		" WHERE id = $1 AND deleted_at IS NULL RETURNING "+columns, id, arguments.Description)
	if err != nil {
		return nil, err
	}
	found, err := scanned(rows)
	if err != nil || len(found.items) == 0 {
		return nil, err
	}
	return found.items[0], nil
}

func main() {
	config, err := pgxpool.ParseConfig(os.Getenv("PLAIN_DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = 10
	if pool, err = pgxpool.ConnectConfig(context.Background(), config); err != nil {
		log.Fatal(err)
	}
	parsed := graphql.MustParseSchema(schema, &root{})
	http.HandleFunc("/graphql", func(response http.ResponseWriter, request *http.Request) {
		var asked struct {
			Query     string
			Variables map[string]interface{}
		}
		if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
			http.Error(response, err.Error(), http.StatusBadRequest)
			return
		}
		body, err := json.Marshal(parsed.Exec(request.Context(), asked.Query, "", asked.Variables))
		if err != nil {
			log.Fatal(err)
		}
		response.Header().Set("Content-Type", "application/json")
		response.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = response.Write(body)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
