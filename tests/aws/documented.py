"""The sections of the documents whose commands test_aws.py runs."""

from documented import DECLARED, NAMES, Walks

FIRST = "docs/options/aws.md: First deployment"
PUSH = "docs/options/aws.md: The first image"
RELEASE = "docs/options/aws.md: Release"
REMOVE = "docs/options/aws.md: Remove an environment"
RUNBOOK = "docs/runbook.md: On AWS"
RESTORE = "docs/runbook.md: Restore the database on AWS"

ANSWERS = {
    "framework": "fastapi",
    "database": "postgresql",
    "cache": "redis",
    "repository": "acme/orders",
    "deployment": ["aws"],
}
WALKS = Walks({**NAMES, **ANSWERS}, (FIRST, RELEASE, REMOVE, RUNBOOK, RESTORE), "account")
DECLARED.append(WALKS)
