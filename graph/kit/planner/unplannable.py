"""The one way in which the planner refuses: whatever it does not know, or would answer in other words, is left to the reference executor."""


class Unplannable(Exception):
    """The reference executor must run this root field, or the whole operation."""
