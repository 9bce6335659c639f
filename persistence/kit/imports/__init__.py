"""Imports of files, for any entity: reading rows by declared columns, and bringing a table in step with them."""
