"""Measure, for several samplers, how far what they draw is from a known joint distribution; write ``table.md``."""

from __future__ import annotations

from pathlib import Path

from experiments.exactness.joint import Joint, agreement

N_SAMPLES = 200_000
CASES: tuple[tuple[str, str, int | None], ...] = (
    ("random", "one at a time", None),
    ("entropy", "one at a time", None),
    ("margin", "one at a time", None),
    ("low_confidence", "one at a time", None),
    ("p2", "one at a time", None),
    ("rcr", "one at a time", None),
    ("random", "all at once", 1),
)


def main() -> None:
    """Print the table and save it beside this file."""
    joint = Joint()
    lines = [
        f"Joint of {joint.n} tokens, vocabulary {joint.v}, entropy {joint.entropy:.3f} nats; {N_SAMPLES:,} sequences each, "
        "temperature 1.",
        "",
        "| sampler | steps | total variation | expected if exact | worst cell (SE) | mean log p + entropy (nats) |",
        "|---|---|---|---|---|---|",
    ]
    for sampler, label, steps in CASES:
        found = agreement(joint, sampler, N_SAMPLES, steps=steps, temperature=1.0)
        lines.append(
            f"| `{sampler}` | {label} | {found.total_variation:.4f} | {found.expected:.4f} | {found.worst:.1f} | "
            f"{found.log_probability + joint.entropy:+.3f} ± {found.standard_error:.3f} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    (Path(__file__).parent / "table.md").write_text(text)


if __name__ == "__main__":
    main()
