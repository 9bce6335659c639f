"""What a client sees: GraphQL and HTTP."""

VERSION = "0.1.0"
