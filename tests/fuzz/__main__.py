"""``python -m tests.fuzz --cases 20000``: fuzz the HTTP API against its OpenAPI document."""

from __future__ import annotations

import argparse
import random
import sys
import uuid
from collections import Counter
from collections.abc import Sequence

from tests.fuzz.run import FuzzResult, fuzz, make_shop
from tests.mongod import start_test_server


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, and print the table and every violation.

    :return: 0, or 1 if there are violations.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="the minimum number of requests")
    parser.add_argument("--seed", type=int, default=None, help="repeat the run with this seed")
    options = parser.parse_args(arguments)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    server = start_test_server()
    if server is None:
        parser.error("MongoDB is missing: see tests/mongod.py")
    try:
        with make_shop(server.uri(f"refunds_fuzz_{uuid.uuid4().hex[:12]}")) as shop:
            result = fuzz(shop, options.cases, seed)
    finally:
        server.stop()
    print(table(result))
    violations = result.violations()
    for violation, count in Counter(violations).most_common(40):
        print(f"{count} x {violation}")
    return 1 if violations else 0


def table(result: FuzzResult) -> str:
    """Return the responses by operation, and the counts of violations."""
    findings = result.findings
    operations = sorted({name for name, _, _ in findings.answers})
    lines = [f"{'operation':<16} {'cases':>6}  answers"]
    for operation in operations:
        statuses: Counter[str] = Counter()
        for (name, status, code), count in findings.answers.items():
            if name == operation:
                statuses[f"{status} {code}".strip()] += count
        counted = ", ".join(f"{what}: {count}" for what, count in sorted(statuses.items()))
        lines.append(f"{operation:<16} {statuses.total():>6}  {counted}")
    counts = {
        "cases": findings.requests,
        "through links": findings.linked,
        "5xx": len(findings.server_errors),
        "undocumented responses": len(findings.outside),
        "changes by rejected requests": len(findings.moved),
        "failed checks": len(result.failures),
        "payments refunded too much": len(result.overpaid),
        "secrets in responses and logs": len(result.canaries.hits),
        "log records read": result.canaries.records,
    }
    lines += [f"{what}: {count}" for what, count in counts.items()]
    return "\n".join([*lines, f"seed {result.seed}, {result.seconds:.0f} s"])


if __name__ == "__main__":
    sys.exit(main())
