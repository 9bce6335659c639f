"""Reads of declared entities as JSON that the database writes: rows by key, pages and counts, each written once for both databases and shared by callers.

`row_json` says what a row's JSON is made of and writes its SQL; `placeholders` takes out of the text what the database could not write; `statements` makes
and keeps the statements. `lookup` finds rows by their keys, `pages` reads whole lists, `child_pages` the lists of parents, each as a `json_page`;
`reader` is the door to all of them. Nothing here knows an entity: that is told in `persistence.kit.query.entity`.
"""
