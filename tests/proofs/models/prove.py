"""State machines at length: Hypothesis makes up many more sequences of steps than in the suite, other ones each time.

`scripts/prove models` runs it; `./scripts/test tests/proofs/models` the short form, with faults that each has to find.
"""

from __future__ import annotations

import argparse
import time

from hypothesis import settings

from tests.proofs.models.machines import BOUNDED, run
from tests.proofs.models.test_catalogue import CatalogueMachine
from tests.proofs.models.test_models import BudgetMachine, IdempotencyMachine, LoginMachine, PagingMachine

MACHINES = {
    "budgets": BudgetMachine,
    "idempotency": IdempotencyMachine,
    "paging": PagingMachine,
    "logins": LoginMachine,
    "catalogue": CatalogueMachine,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/prove models", description=__doc__)
    parser.add_argument("machines", nargs="*", choices=[*MACHINES, []], help=f"all of them without it: {', '.join(MACHINES)}")
    parser.add_argument("--examples", type=int, default=500, help="sequences of steps for each")
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    how = settings(BOUNDED, max_examples=arguments.examples, stateful_step_count=arguments.steps, derandomize=False, database=None)
    for name in arguments.machines or MACHINES:
        began = time.monotonic()
        run(MACHINES[name], how)
        seconds = time.monotonic() - began
        print(f"{name}: {arguments.examples} sequences of up to {arguments.steps} steps in {seconds:.0f} s: as they should be")  # noqa: T201


if __name__ == "__main__":
    main()
