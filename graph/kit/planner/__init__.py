"""The read planner: queries over declared entities, read by one statement for each level of their selection and put together as JSON.

How a query runs. `planner` looks at each root field of the operation. A root that says where its objects come from (`graph.kit.entity.roots`), and below
which stand only declared fields, is compiled once by `compiler`:

    selection   which fields are asked for: fragments, interfaces, @skip and @include resolved, merged by response name
    compiler    from these to levels: what each statement writes of its rows (`persistence.kit.query.row_json`), and what stands around them
    prices      what each object of a level costs, taken from the operation's bill
    fillers     what fills the holes that a statement leaves in its rows: nested lists, computed values, private fields
    connections pages as JSON: nodes, edges, cursors, page info, totals
    splices     resolvers of a page or its edges that are run beside its statement, such as facets
    roots       running a root: find by id, by key, the viewer, or a page of a list

A to-one edge is joined to the statement of its level. A to-many field leaves a hole in the row's JSON with the row's id; the next level's statement
reads the pages of all these ids at once, and its rows may have holes again. So `{ items { nodes { owner { items { nodes { name } } } } } }` is two
statements whatever its width, and callers who ask in the same form at the same time share them.

What keeps it honest. Only fields whose source is declared are planned, and `graph.kit.entity.declaration.check` refuses at start a field with a rule that
a plan would leave out. On any doubt a root goes to the reference executor: an undeclared field, a refused argument, a missing scope, a cursor of another
list. So the planner never makes an error of its own, and one root's doubt does not take its neighbours off their plans. A plan that raises what it
should not is dropped and counted, and an error in the tests. Limits, budgets and caches stand before it, in the pipeline.

FAST_PATH_ENABLED=false turns it off. `tests/kit/planner` compares both ways byte by byte, with documents of real clients and with others made of the
schema.
"""
