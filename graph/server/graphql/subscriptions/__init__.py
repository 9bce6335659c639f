"""Subscriptions, and what else is sent bit by bit: over graphql-transport-ws and server-sent events, and which of their connections are open."""
