"""How an entity's type says where its fields come from, so that resolvers, plans, caching and authorization all follow from one declaration."""
