"""Prepared statements without the ORM, for hot reads, single-statement writes and long streams: the interface in `statement_executor`, and each driver's."""
