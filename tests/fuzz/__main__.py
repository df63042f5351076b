"""``python -m tests.fuzz --cases 20000``: the contract under fire, and what came of it."""

from __future__ import annotations

import argparse
import random
import sys
import uuid
from collections import Counter
from collections.abc import Sequence

from tests.fuzz.run import RefundResult, a_shop, fuzz
from tests.mongod import start_test_server


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print the table and every violation.

    :return: 0, or 1 where the contract was broken.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="how many requests at least")
    parser.add_argument("--seed", type=int, default=None, help="the same requests again")
    chosen = parser.parse_args(arguments)
    seed = random.randrange(2**32) if chosen.seed is None else chosen.seed
    server = start_test_server()
    if server is None:
        parser.error("no real MongoDB: see tests/mongod.py")
    try:
        with a_shop(server.uri(f"refunds_fuzz_{uuid.uuid4().hex[:12]}")) as shop:
            outcome = fuzz(shop, chosen.cases, seed)
    finally:
        server.stop()
    print(table(outcome))
    violations = outcome.violations()
    for violation, count in Counter(violations).most_common(40):
        print(f"{count} x {violation}")
    return 1 if violations else 0


def table(outcome: RefundResult) -> str:
    """What was answered, by operation, and the counts of what may not be."""
    findings = outcome.findings
    operations = sorted({name for name, _, _ in findings.answers})
    lines = [f"{'operation':<16} {'cases':>6}  answers"]
    for operation in operations:
        statuses: Counter[str] = Counter()
        for (name, status, code), count in findings.answers.items():
            if name == operation:
                statuses[f"{status} {code}".strip()] += count
        told = ", ".join(f"{what}: {count}" for what, count in sorted(statuses.items()))
        lines.append(f"{operation:<16} {statuses.total():>6}  {told}")
    counts = {
        "cases": findings.requests,
        "along links": findings.linked,
        "5xx": len(findings.server_errors),
        "answers outside the contract": len(findings.outside),
        "asked or written by bad input": len(findings.moved),
        "failed checks": len(outcome.failures),
        "payments refunded beyond their amount": len(outcome.overpaid),
        "canaries in answers and logs": len(outcome.canaries.hits),
        "log records read": outcome.canaries.records,
    }
    lines += [f"{what}: {count}" for what, count in counts.items()]
    return "\n".join([*lines, f"seed {outcome.seed}, {outcome.seconds:.0f} s"])


if __name__ == "__main__":
    sys.exit(main())
