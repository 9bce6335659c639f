"""Search by words: how a text is split and folded into them (`tokenizer`), and rows read in order until enough of them match (`ordered_scan`)."""
