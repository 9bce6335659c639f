"""The read planner: queries over declared entities, read by one statement for each level of their selection and put together as JSON.

Names are as in Grafast, the planner of PostGraphile: a *plan* is made once of a document; its *steps* run once for all rows of a level.

How a query is planned. `planner` looks at each root field of the operation. A root field that says where its objects come from
(`graph.kit.entity.roots`), and below which stand only declared fields, gets a plan, once:

    collect_fields   which fields are selected: fragments, interfaces, @skip and @include resolved, merged by response name
    plan_builder     goes down the selection: what each level's statement writes of its rows (`persistence.kit.json_rows.row_json`)
    plan_cost        what each object of a level costs, from the operation's estimate
    connection_plan  a connection: nodes, edges, cursors, page info, totals
    root_plans       a root field: an object by id, by key or as the viewer, several by ids, a page of a list, what a resolver finds

How a plan is executed (`plan_execution` has the viewer, the variables and the arguments):

    steps            fill the placeholders that a statement leaves in its rows: nested lists, aggregates, computed values, private fields
    splices          run the resolvers of a page or its edges that stand beside its statement, such as facets, and root fields that are resolvers
    payloads         what payloads of mutations and events of subscriptions select beyond the objects at hand, by the same plans and steps

A to-one edge is joined to the statement of its level. A to-many field leaves a placeholder in the row's JSON with the row's id; the next level's
statement reads the pages of all these ids at once, and its rows may have placeholders again. So
`{ items { nodes { owner { items { nodes { name } } } } } }` is two statements whatever its width, and callers who ask in the same form at the same time
share them.

What keeps it honest. Only fields whose source is declared are planned, and `graph.kit.entity.declaration.check` refuses at start a field with a rule that
a plan would leave out. On any doubt (`unplannable`) a root goes to the reference executor: an undeclared field, a refused argument, a missing scope, a
cursor of another list. So the planner never makes an error of its own, and one root's doubt does not take its neighbours off their plans. Rules about the
viewer are asked for each row; what a scope opens is open in a plan of its own, for those who hold every scope that the document asks for (`planner.PlanKey`).
A plan that raises what it should not is dropped and counted, and an error in the tests. Limits, budgets and caches stand before it, in the pipeline.

FAST_PATH_ENABLED=false turns it off. `tests/kit/planner` compares both ways byte by byte, with documents of real clients and with others made of the
schema.
"""
