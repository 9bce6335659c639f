"""What entities are and how their rows are listed: conditions, order, pages by cursors, and keys of many callers fetched together.

`entity` says what a table is to the service, `entity_list` what a list of its rows is, `paging` how a page of one is cut out. Rows that the database returns
as JSON are read in `persistence.kit.json_rows`.
"""
