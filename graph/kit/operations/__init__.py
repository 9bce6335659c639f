"""What clients do with a declared entity: read lists of it, change it, follow its events, export it."""
