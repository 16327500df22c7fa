"""Python files as a target's own text: names stand in them as literals, whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence

from workbench.allocation.export.subject import Subject
from workbench.allocation.schema import stored_bits


def quoted(text: str) -> str:
    """A string literal in plain ASCII, that nothing in a name can end early."""
    return json.dumps(text)


def python_file(subject: Subject, imports: Sequence[str], body: str) -> str:
    """A file with one comment on top that says what it is for."""
    named = json.dumps(subject.plan.model.id)  # on one line, whatever the model is called
    head = f"# Bits for {named}: {stored_bits(subject.plan):.3f} stored bits a weight as planned."
    return "\n\n".join([part for part in (head, "\n".join(imports), body) if part]) + "\n"
