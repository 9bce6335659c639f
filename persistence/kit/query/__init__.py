"""Statements of declared reads: rows as JSON, look-ups by key, pages and counts, each written once for both databases and shared between callers.

`row_json` says what a row's JSON is made of and writes its SQL, `placeholders` takes out of the text what the database could not write, `reader` runs the
statements, and `json_page` is what a list gives. Nothing here knows an entity: that is told in `entity`.
"""
